import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { clearBytes, deriveKey, Nonces, open, seal } from '../src/e2ee/frames';

// Node 18 has it under this name only.
if (!('crypto' in globalThis)) Object.assign(globalThis, { crypto: webcrypto });

const FRAME = Uint8Array.from({ length: 100 }, (_, index) => index);
const key = deriveKey('secret', 'room');

test('what is sealed opens with the same key, and shows its header alone', async () => {
  const nonces = new Nonces();
  for (const clear of [1, 3, 10, 100]) {
    const sealed = await seal(await key, nonces, FRAME.buffer, clear);
    assert.equal(sealed.byteLength, FRAME.length + 16 + 12);
    assert.deepEqual(new Uint8Array(sealed, 0, clear), FRAME.slice(0, clear));
    if (clear < 90) assert.notDeepEqual(new Uint8Array(sealed, clear, 10), FRAME.slice(clear, clear + 10));
    assert.deepEqual(new Uint8Array(await open(await key, sealed, clear)), FRAME);
  }
});

test('another passphrase and another room are other keys', async () => {
  const sealed = await seal(await key, new Nonces(), FRAME.buffer, 3);
  for (const other of [deriveKey('Secret', 'room'), deriveKey('secret', 'another')]) await assert.rejects(open(await other, sealed, 3));
});

test('a frame that was changed does not open, its header included', async () => {
  const sealed = await seal(await key, new Nonces(), FRAME.buffer, 10);
  for (const index of [0, 9, 10, 50, sealed.byteLength - 20, sealed.byteLength - 1]) {
    const changed = new Uint8Array(sealed.slice(0));
    changed[index] = (changed[index] ?? 0) ^ 1;
    await assert.rejects(open(await key, changed.buffer, 10), `byte ${index}`);
  }
  for (const length of [0, 5, 12, 30]) await assert.rejects(open(await key, sealed.slice(0, length), 10), `${length} bytes`);
});

test('no nonce comes twice', () => {
  const nonces = [new Nonces(), new Nonces()];
  const seen = new Set(nonces.flatMap((of) => Array.from({ length: 1_000 }, () => of.next().join())));
  assert.equal(seen.size, 2_000);
});

test('headers are as long as those of the codecs', () => {
  assert.deepEqual([clearBytes('audio', undefined), clearBytes('video', 'key'), clearBytes('video', 'delta')], [1, 10, 3]);
});
