/**
 * The format of encrypted frames:
 *
 *     | clear header | AES-256-GCM ciphertext | tag, 16 bytes | nonce, 12 bytes |
 *
 * The header is what the server and the packetizer must read: of VP8 the payload header (RFC 7741 section 4.3), 10 bytes of a key
 * frame and 3 of others; of Opus the TOC byte (RFC 6716 section 3.1). The tag vouches for it too.
 */

const NONCE_BYTES = 12;

/** The key must hold for guessing to be slow, and a joiner does not wait for it: what OWASP advises for PBKDF2 with SHA-256. */
const ITERATIONS = 600_000;

/** How many bytes stay as they are; `type` is that of a video frame. */
export function clearBytes(kind: 'audio' | 'video', type: string | undefined): number {
  if (kind === 'audio') return 1;
  return type === 'key' ? 10 : 3;
}

/** The key of a room: the same passphrase is another key elsewhere. */
export async function deriveKey(passphrase: string, room: string): Promise<CryptoKey> {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const material = await crypto.subtle.importKey('raw', bytes(passphrase), 'PBKDF2', false, ['deriveKey']);
  const algorithm = { name: 'PBKDF2', hash: 'SHA-256', salt: bytes(`sluice ${room}`), iterations: ITERATIONS };
  return crypto.subtle.deriveKey(algorithm, material, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

/** Nonces of one sender: everybody in the room has the same key, so 8 random bytes tell senders apart, and 4 bytes count. */
export class Nonces {
  private readonly bytes = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  private count = 0;

  next(): Uint8Array<ArrayBuffer> {
    if (this.count === 2 ** 32) {
      crypto.getRandomValues(this.bytes);
      this.count = 0;
    }
    new DataView(this.bytes.buffer).setUint32(NONCE_BYTES - 4, this.count++);
    return this.bytes.slice();
  }
}

/** Encrypts a frame. */
export async function seal(key: CryptoKey, nonces: Nonces, frame: ArrayBuffer, clear: number): Promise<ArrayBuffer> {
  const header = new Uint8Array(frame.slice(0, clear));
  const iv = nonces.next();
  const body = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: header }, key, frame.slice(clear));
  const sealed = new Uint8Array(header.length + body.byteLength + iv.length);
  sealed.set(header);
  sealed.set(new Uint8Array(body), header.length);
  sealed.set(iv, header.length + body.byteLength);
  return sealed.buffer;
}

/** Decrypts a frame; rejects if the key is another or the frame was changed. */
export async function open(key: CryptoKey, sealed: ArrayBuffer, clear: number): Promise<ArrayBuffer> {
  const header = new Uint8Array(sealed.slice(0, clear));
  const end = Math.max(clear, sealed.byteLength - NONCE_BYTES);
  const iv = sealed.slice(end);
  const body = await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData: header }, key, sealed.slice(clear, end));
  const frame = new Uint8Array(header.length + body.byteLength);
  frame.set(header);
  frame.set(new Uint8Array(body), header.length);
  return frame.buffer;
}
