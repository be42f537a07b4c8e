import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inviteUrl, parseOptions, passphraseOf, PeerSecret, signallingUrl, suggestRoom } from '../src/options';

test('the address says who joins what, and with which devices', () => {
  assert.deepEqual(parseOptions('?roomId=blue%20room&displayName=Zo%C3%AB&audio=0&namespace=acme'), {
    room: 'blue room', displayName: 'Zoë', peerId: undefined, namespace: 'acme', token: undefined, audio: false, video: true,
    forceTcp: false, iceTransportPolicy: undefined,
  });
  assert.deepEqual(parseOptions(''), {
    room: '', displayName: '', peerId: undefined, namespace: undefined, token: undefined, audio: true, video: true,
    forceTcp: false, iceTransportPolicy: undefined,
  });
  assert.equal(parseOptions('?forceTcp=true').forceTcp, true);
});

test('the address may have media go through TURN, and nothing else', () => {
  assert.equal(parseOptions('?iceTransportPolicy=relay').iceTransportPolicy, 'relay');
  assert.equal(parseOptions('?iceTransportPolicy=none').iceTransportPolicy, undefined);
});

function token(claims: object): string {
  return ['{}', JSON.stringify(claims), 'signature'].map((part) => Buffer.from(part).toString('base64url')).join('.');
}

test('a token names its holder', () => {
  const { peerId, displayName } = parseOptions(`?displayName=Zo&token=${token({ sub: 'zoë?>', name: 'Zoë' })}`);
  assert.deepEqual([peerId, displayName], ['zoë?>', 'Zoë']);
  assert.equal(parseOptions(`?peerId=another&token=${token({ sub: 'zoe' })}`).peerId, 'another', 'the server says what is wrong with that');
});

test('a token that cannot be read names nobody, and is shown to the server as it is', () => {
  for (const broken of ['x', 'a.b.c', 'a.bnVsbA.c', token({ sub: 1, name: {} })]) {
    const { peerId, displayName, token } = parseOptions(`?displayName=Zo&token=${broken}`);
    assert.deepEqual([peerId, displayName, token], [undefined, 'Zo', broken]);
  }
});

test('signalling is where the page came from, encrypted if that was', () => {
  assert.equal(signallingUrl('http://127.0.0.1:4443', { roomId: 'a&b', peerId: 'p' }), 'ws://127.0.0.1:4443/?roomId=a%26b&peerId=p');
  assert.equal(signallingUrl('https://meet.example', { roomId: 'r', peerId: 'p' }), 'wss://meet.example/?roomId=r&peerId=p');
});

test('the address of signalling has what lets somebody in, and nothing that is not there', () => {
  const opening = { roomId: 'r', peerId: 'p', namespace: 'acme', token: 't.t.t', peerSecret: 's+1', resume: true };
  assert.equal(
    signallingUrl('https://meet.example', opening),
    'wss://meet.example/?roomId=r&peerId=p&namespace=acme&token=t.t.t&peerSecret=s%2B1&resume=true',
  );
  const nothing = { namespace: undefined, token: undefined, peerSecret: undefined, resume: false };
  assert.equal(signallingUrl('https://meet.example', { ...opening, ...nothing }), 'wss://meet.example/?roomId=r&peerId=p');
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
  assert.equal(inviteUrl('https://meet.example', 'küche 1', undefined), 'https://meet.example/?roomId=k%C3%BCche+1');
});

test('a passphrase is in the fragment, whatever it is made of', () => {
  const passphrase = 'a+b &c=d#é';
  const url = new URL(inviteUrl('https://meet.example', 'r', passphrase));
  assert.deepEqual([url.search, passphraseOf(url.hash)], ['?roomId=r', passphrase]);
  for (const nothing of ['', '#', '#key=', '#other=1']) assert.equal(passphraseOf(nothing), undefined);
});

test('suggested rooms are words and a number', () => {
  assert.match(suggestRoom(), /^[a-z]+-[a-z]+-\d{3}$/);
  assert.equal(suggestRoom(() => 0), 'amber-amber-100');
});
