import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explainFailure } from '../src/reach';

const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0';
const CHROMIUM = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36';

const at = (...hosts: string[]) => hosts.map((address) => ({ address, port: 4444, protocol: 'udp' }));

test('whoever has no way is told where it was looked for', () => {
  const text = explainFailure(at('203.0.113.7', '2001:db8::1'), [], CHROMIUM);
  assert.match(text, /203\.0\.113\.7:4444 \(UDP\), 2001:db8::1:4444 \(UDP\)/);
  assert.match(text, /firewall/);
});

test('every way that was tried is told', () => {
  const candidates = ['udp', 'tcp'].map((protocol) => ({ address: '203.0.113.7', port: 4444, protocol }));
  const text = explainFailure(candidates, ['turns:meet.example:443?transport=tcp'], CHROMIUM);
  assert.match(text, /203\.0\.113\.7:4444 \(UDP\), 203\.0\.113\.7:4444 \(TCP\), nor by TURN from turns:meet\.example:443/);
});

test('Firefox, which sends no media to loopback, is told that', () => {
  assert.match(explainFailure(at('127.0.0.1'), [], FIREFOX), /Firefox sends no media/);
  assert.match(explainFailure(at('127.0.0.1', '192.0.2.1'), [], FIREFOX), /firewall/);
});

test('an address of the server alone is told as such', () => {
  assert.match(explainFailure(at('127.0.0.1'), [], CHROMIUM), /must announce another one/);
  assert.match(explainFailure([{ ip: '::1', port: 1, protocol: 'udp' }], [], CHROMIUM), /must announce another one/);
});
