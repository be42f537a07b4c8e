import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { deriveKey, Nonces, open, seal } from '../src/e2ee/frames';
import { isSealed, openText, sealText } from '../src/e2ee/texts';
import { Encryption } from '../src/encryption';

// Node 18 has it under this name only.
if (!('crypto' in globalThis)) Object.assign(globalThis, { crypto: webcrypto });

const key = deriveKey('secret', 'room');

test('a message that is sealed opens with the same key, in the same channel', async () => {
  const nonces = new Nonces();
  for (const text of ['', 'hello', '👍 über', 'x'.repeat(10_000)]) {
    const sealed = await sealText(await key, nonces, 'chat', text);
    assert.ok(isSealed('chat', sealed));
    assert.equal(await openText(await key, 'chat', sealed), text);
    await assert.rejects(openText(await deriveKey('another', 'room'), 'chat', sealed));
    assert.ok(!isSealed('signals', sealed));
    await assert.rejects(openText(await key, 'signals', sealed));
  }
});

test('no frame is a message', async () => {
  const frame = new TextEncoder().encode('chat, says a frame').buffer;
  for (const clear of [1, 3, 10]) {
    const sealed = await seal(await key, new Nonces(), frame, clear);
    await assert.rejects(openText(await key, 'chat', sealed));
  }
  await assert.rejects(open(await key, await sealText(await key, new Nonces(), 'chat', 'hello'), 3));
});

test('messages are encrypted while there is a passphrase, and read with that alone', async () => {
  const [ann, ben] = [new Encryption(undefined), new Encryption(undefined)];
  for (const one of [ann, ben]) one.enter('room');
  assert.equal(await ann.sealText('chat', 'clear'), 'clear');
  assert.deepEqual(await ben.openText('chat', 'clear'), { text: 'clear', encrypted: false });
  ann.setPassphrase('secret');
  const sealed = await ann.sealText('chat', 'hidden');
  assert.ok(sealed instanceof ArrayBuffer);
  assert.deepEqual(await ben.openText('chat', sealed), { text: undefined, encrypted: true });
  ben.setPassphrase('secret');
  assert.deepEqual(await ben.openText('chat', sealed), { text: 'hidden', encrypted: true });
  ben.setPassphrase('another');
  assert.deepEqual(await ben.openText('chat', sealed), { text: undefined, encrypted: true });
  // mediasoup-demo's clients test their channels so.
  assert.equal(await ben.openText('chat', new ArrayBuffer(4)), undefined);
});
