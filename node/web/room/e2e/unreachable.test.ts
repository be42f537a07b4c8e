/** A node whose media nobody reaches, by TURN neither: signalling works, and the page must say what does not. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

/** How long Chromium tries before it calls an ICE connection failed. */
const ICE_FAILS_WITHIN_MS = 60_000;

/** Takes everything and answers nothing. */
const silence = createSocket('udp4');
let address: string;
let mesh: Mesh;
let browser: Browser;

before(async () => {
  silence.bind(0, '127.0.0.1');
  await once(silence, 'listening');
  address = `127.0.0.1:${silence.address().port}`;
  mesh = await Mesh.processes('unreachable', 1, ['--media-announced', address, '--turn-enabled=false']);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  silence.close();
});

test('the page says that media find no way, and which tiles wait for them', async () => {
  const node = mesh.nodes[0]?.users ?? '';
  const [alice, bob] = (await Promise.all(['Alice', 'Bob'].map((name) => Person.join(browser, name, node, 'silence')))) as [Person, Person];
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await alice.tile('Bob').getByText('No picture arrives').waitFor();
  await eventually('the chip says so', async () => (await alice.page.locator('.chip').innerText()) === 'No way for media', ICE_FAILS_WITHIN_MS);
  const notice = alice.page.locator('.notice', { hasText: 'find no way to the server' });
  assert.ok((await notice.innerText()).includes(`${address} (UDP)`), await notice.innerText());
  await alice.screenshot('unreachable');
});
