/** Encrypts and decrypts frames, in a worker of its own (WebRTC Encoded Transform). The bundle is `e2ee.js`. */
import type { FromWorker, ToWorker, TransformOptions } from './messages';
import { clearBytes, deriveKey, Nonces, open, seal } from './frames';

interface EncodedFrame {
  data: ArrayBuffer;
  /** Of video only. */
  type?: string;
}

interface Transformer {
  readable: ReadableStream<EncodedFrame>;
  writable: WritableStream<EncodedFrame>;
  options: TransformOptions;
}

declare const self: {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  onrtctransform: (event: { transformer: Transformer }) => void;
  postMessage(message: FromWorker): void;
};

/** What is sent waits for it; without one nothing is sent. */
let key: Promise<CryptoKey | undefined> = Promise.resolve(undefined);

self.onmessage = ({ data: { passphrase, room } }) => {
  key = passphrase === undefined ? Promise.resolve(undefined) : deriveKey(passphrase, room);
};

self.onrtctransform = ({ transformer: { readable, writable, options } }) => {
  const transform = options.consumerId === undefined ? sealing(options) : opening(options, options.consumerId);
  // It ends when the sender or receiver does.
  readable.pipeThrough(new TransformStream({ transform })).pipeTo(writable).catch(() => {});
};

type Transform = (frame: EncodedFrame, controller: TransformStreamDefaultController<EncodedFrame>) => Promise<void>;

function sealing({ kind }: TransformOptions): Transform {
  const nonces = new Nonces();
  return async (frame, controller) => {
    const present = await key;
    // An encoder that has nothing to say gives frames of no bytes, and there is nothing to hide.
    if (!present || frame.data.byteLength === 0) return;
    frame.data = await seal(present, nonces, frame.data, clearBytes(kind, frame.type));
    controller.enqueue(frame);
  };
}

/** So many frames in a row that do not open are no accident. */
const GIVE_UP_AFTER = 5;

/** What cannot be decrypted is dropped: a decoder would make noise of it. */
function opening({ kind }: TransformOptions, consumerId: string): Transform {
  let told: boolean | undefined;
  let failures = 0;
  const tell = (readable: boolean) => {
    if (readable !== told) self.postMessage({ consumerId, readable });
    told = readable;
  };
  return async (frame, controller) => {
    const present = await key;
    if (!present) return tell(false);
    try {
      frame.data = await open(present, frame.data, clearBytes(kind, frame.type));
    } catch {
      if (++failures >= GIVE_UP_AFTER) tell(false);
      return;
    }
    failures = 0;
    tell(true);
    controller.enqueue(frame);
  };
}
