/** What comes of the others over data channels. */
import type { types } from 'mediasoup-client';
import type { NewDataConsumer } from '../demo-v3';
import { RequestError } from '../protoo';

/** The channels that the page knows: mediasoup-demo's clients have the first one too. */
export const LABELS = ['chat', 'signals'] as const;
export type Label = (typeof LABELS)[number];

/** Whose channel it is. */
export interface Origin {
  peerId: string;
  label: Label;
}

export interface DataMessage extends Origin {
  data: string | ArrayBuffer;
}

interface Setup {
  peerId: string;
  done: Promise<void>;
  /** It ended before it was set up. */
  gone: boolean;
}

export class DataReceiver {
  private readonly consumers = new Map<string, Origin & { consumer: types.DataConsumer }>();
  private readonly setups = new Map<string, Setup>();

  /** `heard` gets each message, `ended` is called when a peer has no such channel any more. */
  constructor(
    private readonly transport: Promise<Pick<types.Transport, 'consumeData'>>,
    private readonly heard: (message: DataMessage) => void,
    private readonly ended: (origin: Origin) => void,
  ) {}

  /** Receives what the server offers. Resolves when it is set up, also if it is offered again meanwhile. */
  consume(request: NewDataConsumer): Promise<void> {
    const { id, peerId } = request;
    const label = LABELS.find((label) => label === request.label);
    if (!label || !peerId) {
      return Promise.reject(new RequestError('newDataConsumer', 403, `this page does not read "${request.label}"`));
    }
    if (this.consumers.has(id)) return Promise.resolve();
    const present = this.setups.get(id);
    if (present) return present.done;
    const setup: Setup = { peerId, gone: false, done: Promise.resolve() };
    setup.done = this.setUp(request, { peerId, label }, setup).finally(() => this.setups.delete(id));
    this.setups.set(id, setup);
    return setup.done;
  }

  close(id: string): void {
    const setup = this.setups.get(id);
    if (setup) setup.gone = true;
    this.consumers.get(id)?.consumer.close();
  }

  closePeer(peerId: string): void {
    for (const [id, setup] of this.setups) if (setup.peerId === peerId) this.close(id);
    for (const [id, received] of this.consumers) if (received.peerId === peerId) this.close(id);
  }

  /** Catches up with what happened while nothing was heard: only these are left. */
  reconcile(ids: string[]): void {
    for (const id of [...this.consumers.keys(), ...this.setups.keys()]) if (!ids.includes(id)) this.close(id);
  }

  private async setUp(request: NewDataConsumer, origin: Origin, setup: Setup): Promise<void> {
    const { id, dataProducerId, sctpStreamParameters, label, protocol } = request;
    const transport = await this.transport;
    const consumer = await transport.consumeData({ id, dataProducerId, sctpStreamParameters, label, protocol });
    if (setup.gone) return consumer.close();
    consumer.binaryType = 'arraybuffer';
    this.consumers.set(id, { ...origin, consumer });
    consumer.on('message', (data: string | ArrayBuffer) => this.heard({ ...origin, data }));
    // However it ends: told by the server, with the transport, or by the other side of the channel.
    consumer.observer.once('close', () => this.forget(id, origin));
  }

  private forget(id: string, origin: Origin): void {
    this.consumers.delete(id);
    const { peerId, label } = origin;
    // A newer one may have its place already.
    const another = [...this.consumers.values()].some((other) => other.peerId === peerId && other.label === label);
    if (!another) this.ended(origin);
  }
}
