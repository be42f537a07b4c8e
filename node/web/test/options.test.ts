import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inviteUrl, parseOptions, signallingUrl, suggestRoom } from '../src/options';

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

test('an invitation names the room and nobody', () => {
  assert.equal(inviteUrl('https://meet.example', 'küche 1'), 'https://meet.example/?roomId=k%C3%BCche+1');
});

test('suggested rooms are words and a number', () => {
  assert.match(suggestRoom(), /^[a-z]+-[a-z]+-\d{3}$/);
  assert.equal(suggestRoom(() => 0), 'amber-amber-100');
});
