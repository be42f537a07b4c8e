import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inviteUrl, parseOptions, PeerSecret, signallingUrl, suggestRoom } from '../src/options';

test('the address says who joins what, and with which devices', () => {
  assert.deepEqual(parseOptions('?roomId=blue%20room&displayName=Zo%C3%AB&audio=0'), {
    room: 'blue room', displayName: 'Zoë', peerId: undefined, audio: false, video: true,
  });
  assert.deepEqual(parseOptions(''), { room: '', displayName: '', peerId: undefined, audio: true, video: true });
});

test('signalling is where the page came from, encrypted if that was', () => {
  assert.equal(signallingUrl('http://127.0.0.1:4443', 'a&b', 'p'), 'ws://127.0.0.1:4443/?roomId=a%26b&peerId=p');
  assert.equal(signallingUrl('https://meet.example', 'r', 'p'), 'wss://meet.example/?roomId=r&peerId=p');
});

test('who was in the room before shows the secret that it was given', () => {
  assert.equal(signallingUrl('https://meet.example', 'r', 'p', 's+1'), 'wss://meet.example/?roomId=r&peerId=p&peerSecret=s%2B1');
});

test('a secret outlives the page, and is of one peer in one room', () => {
  const storage = new Map<string, string>();
  const sessionStorage = {
    getItem: (key: string) => storage.get(key) ?? null,
    setItem: (key: string, value: string) => void storage.set(key, value),
  };
  Object.assign(globalThis, { sessionStorage });
  const secret = new PeerSecret('room', 'me');
  assert.equal(secret.get(), undefined);
  secret.set('first');
  secret.set('second');
  assert.equal(secret.get(), 'second');
  assert.equal(new PeerSecret('room', 'me').get(), 'second');
  assert.equal(new PeerSecret('another', 'me').get(), undefined);
  assert.equal(new PeerSecret('room', 'somebody').get(), undefined);
  storage.set('sluice.peerSecret', 'not JSON');
  assert.equal(new PeerSecret('room', 'me').get(), undefined);
});

test('an invitation names the room and nobody', () => {
  assert.equal(inviteUrl('https://meet.example', 'küche 1'), 'https://meet.example/?roomId=k%C3%BCche+1');
});

test('suggested rooms are words and a number', () => {
  assert.match(suggestRoom(), /^[a-z]+-[a-z]+-\d{3}$/);
  assert.equal(suggestRoom(() => 0), 'amber-amber-100');
});
