/**
 * End-to-end encryption: frames are encrypted before they leave the browser, with a key from a passphrase that is in the fragment of
 * the page's address and never sent to the server. How a frame looks is told in `e2ee/frames.ts`.
 */
import type { Kind } from './devices';
import { deriveKey, Nonces } from './e2ee/frames';
import type { FromWorker, ToWorker, TransformOptions } from './e2ee/messages';
import { isSealed, openText, sealText } from './e2ee/texts';
import { Emitter } from './emitter';

type Events = {
  /** It was switched on or off, or has another passphrase. */
  change: undefined;
  /** Whether a consumer's media can be read with the present key. */
  readable: FromWorker;
};

/** A message of a data channel. */
export interface Opened {
  /** Undefined if it is encrypted with another key. */
  text: string | undefined;
  encrypted: boolean;
}

/** With so many random bytes guessing is hopeless. */
const PASSPHRASE_BYTES = 16;

/** A passphrase that nobody guesses and that an address carries as it is. */
export function newPassphrase(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(PASSPHRASE_BYTES));
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
}

export class Encryption extends Emitter<Events> {
  /** Whether the browser can, and lends its cryptography to this page: it does so over HTTPS or on the server's own machine. */
  static readonly supported = typeof RTCRtpScriptTransform === 'function' && globalThis.isSecureContext;

  private worker: Worker | undefined;
  private room = '';
  /** For messages; it takes a moment to derive, and nobody needs it before the first one. */
  private textKey: Promise<CryptoKey> | undefined;
  private readonly nonces = new Nonces();

  constructor(private phrase: string | undefined) {
    super();
  }

  /** What the others must know; undefined while nothing is encrypted. */
  get passphrase(): string | undefined {
    return this.phrase;
  }

  setPassphrase(passphrase: string | undefined): void {
    if (passphrase === this.phrase) return;
    this.phrase = passphrase;
    this.textKey = undefined;
    this.tellKey();
    this.emit('change', undefined);
  }

  /** The passphrase is a key in this room. It takes a moment to derive, which begins now. */
  enter(room: string): void {
    this.room = room;
    this.textKey = undefined;
    if (this.worker) this.tellKey();
    else if (this.phrase !== undefined && Encryption.supported) this.start();
  }

  /** Encrypts what a sender sends. */
  seal(sender: RTCRtpSender, kind: Kind): void {
    sender.transform = this.transform({ kind });
  }

  /** Decrypts what a consumer receives. */
  open(receiver: RTCRtpReceiver, kind: Kind, consumerId: string): void {
    receiver.transform = this.transform({ kind, consumerId });
  }

  /** What is sent of a message over a data channel. Rejects if it is to be encrypted and the browser cannot. */
  async sealText(label: string, text: string): Promise<string | ArrayBuffer> {
    const key = await this.messageKey();
    return key ? sealText(key, this.nonces, label, text) : text;
  }

  /** What came over a data channel; undefined if it is no message of such a channel. */
  async openText(label: string, data: string | ArrayBuffer): Promise<Opened | undefined> {
    if (typeof data === 'string') return { text: data, encrypted: false };
    if (!isSealed(label, data)) return undefined;
    const key = await this.messageKey().catch(() => undefined);
    const text = key && (await openText(key, label, data).catch(() => undefined));
    return { text, encrypted: true };
  }

  private async messageKey(): Promise<CryptoKey | undefined> {
    if (this.phrase === undefined) return undefined;
    // Only pages that are served securely get it.
    if (!('subtle' in crypto)) throw new Error('this browser cannot encrypt it');
    this.textKey ??= deriveKey(this.phrase, this.room);
    return this.textKey;
  }

  private transform(options: TransformOptions): RTCRtpScriptTransform {
    return new RTCRtpScriptTransform(this.start(), options);
  }

  private start(): Worker {
    if (!this.worker) {
      this.worker = new Worker(new URL('e2ee.js', import.meta.url), { type: 'module' });
      this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.emit('readable', data);
      this.tellKey();
    }
    return this.worker;
  }

  private tellKey(): void {
    this.worker?.postMessage({ passphrase: this.phrase, room: this.room } satisfies ToWorker);
  }
}
