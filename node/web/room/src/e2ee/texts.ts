/**
 * Encrypted messages of data channels, in the format of encrypted frames. Their clear header is the channel's label: a message of one
 * channel is none of another, and none is a frame, whose clear headers have other lengths.
 */
import { open, seal, type Nonces } from './frames';

/** Encrypts a message. Labels are ASCII. */
export function sealText(key: CryptoKey, nonces: Nonces, label: string, text: string): Promise<ArrayBuffer> {
  return seal(key, nonces, new TextEncoder().encode(label + text).buffer, label.length);
}

/** Whether this may be an encrypted message of the channel. */
export function isSealed(label: string, data: ArrayBuffer): boolean {
  return new TextDecoder().decode(data.slice(0, label.length)) === label;
}

/** Decrypts a message; rejects if the key is another or the message was changed. */
export async function openText(key: CryptoKey, label: string, sealed: ArrayBuffer): Promise<string> {
  return new TextDecoder().decode(await open(key, sealed, label.length)).slice(label.length);
}
