/**
 * What this page sends to all others over a data channel of one label, and what they send. It lasts for as long as the stay in the room:
 * what is to be sent waits for the data producer, also for that of the next session.
 *
 * A data producer costs everybody in the room a stream, so there is none before it is needed.
 */
import type { types } from 'mediasoup-client';
import { Emitter } from '../emitter';
import type { Encryption, Opened } from '../encryption';
import { ConnectionLost } from '../protoo';
import type { Session } from '../session';
import type { Label } from './data-receiver';

/** Beyond this the rest waits here: what the browser has not sent when the session ends must be sent again. */
const BUFFERED_BYTES = 64 * 1_024;

/** A data producer that ended by itself is replaced after this. */
const AGAIN_AFTER_MS = 2_000;

/** Something to be sent. */
export interface Item {
  /** What to send when its turn comes; undefined if that is of no use any more. */
  text(): string | undefined;
  /** Is called when it has been sent, or with the words why it cannot be. */
  done?(problem?: string): void;
}

export interface ChannelOptions {
  label: Label;
  protocol: string;
  /** So many items wait at most. */
  longestQueue: number;
  /** What is to be said first over each data producer, if there is such a thing. */
  greeting?(): string | undefined;
}

type Events = {
  message: Opened & { peerId: string };
  /** A peer has no such channel any more. */
  gone: string;
  /** There is no data producer to be had, and why. */
  refused: string;
};

export type ChannelSession = Pick<Session, 'on' | 'produceData'>;

export class Channel extends Emitter<Events> {
  private session: ChannelSession | undefined;
  /** Whose data producer is on its way. */
  private opening: ChannelSession | undefined;
  /** Once it is open. */
  private producer: types.DataProducer | undefined;
  private readonly waiting: Item[] = [];
  /** The browser has them, and has perhaps not sent all of them. */
  private readonly handed: { item: Item; bytes: number }[] = [];
  private sending = false;
  /** What came is opened one after the other. */
  private received = Promise.resolve();

  constructor(
    private readonly options: ChannelOptions,
    private readonly encryption: Pick<Encryption, 'sealText' | 'openText'>,
  ) {
    super();
  }

  /** Whether what is sent goes out at once. */
  get isOpen(): boolean {
    return this.producer !== undefined;
  }

  /** Goes on over another session. */
  follow(session: ChannelSession): void {
    const { label } = this.options;
    this.session = session;
    session.on('data', ({ peerId, label: of, data }) => {
      if (of === label) this.receive(async () => this.opened(peerId, await this.encryption.openText(label, data)));
    });
    session.on('dataEnded', ({ peerId, label: of }) => {
      if (of === label) this.receive(async () => this.emit('gone', peerId));
    });
    session.on('closed', () => {
      if (this.session === session) this.session = undefined;
    });
    if (this.isNeeded) void this.open();
  }

  /** Something will be sent soon. */
  prepare(): void {
    void this.open();
  }

  /** Sends something as soon as that is possible. False if too much waits already. */
  send(item: Item): boolean {
    if (this.waiting.length >= this.options.longestQueue) return false;
    this.waiting.push(item);
    void this.open();
    void this.flush();
    return true;
  }

  private get isNeeded(): boolean {
    return this.waiting.length > 0 || this.options.greeting?.() !== undefined;
  }

  private receive(task: () => Promise<void>): void {
    this.received = this.received.then(task).catch((error: unknown) => console.error(error));
  }

  private async opened(peerId: string, opened: Opened | undefined): Promise<void> {
    if (opened) this.emit('message', { peerId, ...opened });
  }

  private async open(): Promise<void> {
    const { session } = this;
    if (!session || this.producer || this.opening === session) return;
    this.opening = session;
    let again = true;
    try {
      const producer = await session.produceData(this.options.label, this.options.protocol);
      producer.observer.once('close', () => this.closed(producer));
      await whenOpen(producer);
      if (this.session === session && !producer.closed) this.begin(producer);
    } catch (error) {
      again = error instanceof ConnectionLost;
      if (!again && this.session === session) this.refuse((error as Error).message);
    }
    if (this.opening === session) this.opening = undefined;
    if (again && this.session === session && !this.producer) this.openAgain();
  }

  private begin(producer: types.DataProducer): void {
    this.producer = producer;
    producer.on('bufferedamountlow', () => this.sent(producer));
    const { greeting } = this.options;
    if (greeting?.() !== undefined) this.waiting.unshift({ text: greeting });
    void this.flush();
  }

  private closed(producer: types.DataProducer): void {
    if (this.producer !== producer) return;
    this.retire(producer);
    this.producer = undefined;
    this.waiting.unshift(...this.handed.splice(0).map(({ item }) => item));
    this.openAgain();
  }

  private openAgain(): void {
    if (!this.isNeeded) return;
    setTimeout(() => {
      if (this.isNeeded) void this.open();
    }, AGAIN_AFTER_MS);
  }

  private refuse(problem: string): void {
    for (const item of this.waiting.splice(0)) item.done?.(problem);
    this.emit('refused', problem);
  }

  private async flush(): Promise<void> {
    if (this.sending) return;
    this.sending = true;
    for (;;) {
      const { producer } = this;
      const [item] = this.waiting;
      if (!producer || !item || producer.bufferedAmount >= BUFFERED_BYTES) break;
      let problem: string | undefined;
      let data: string | ArrayBuffer | undefined;
      try {
        const text = item.text();
        data = text === undefined ? undefined : await this.encryption.sealText(this.options.label, text);
      } catch (error) {
        problem = (error as Error).message;
      }
      // If the data producer ended meanwhile, the item waits for the next one.
      if (this.producer !== producer || this.waiting[0] !== item) continue;
      this.waiting.shift();
      if (problem !== undefined) item.done?.(problem);
      else if (data !== undefined) this.hand(producer, item, data);
    }
    this.sending = false;
  }

  /** Gives an item to the browser. */
  private hand(producer: types.DataProducer, item: Item, data: string | ArrayBuffer): void {
    const before = producer.bufferedAmount;
    try {
      producer.send(data);
    } catch (error) {
      item.done?.((error as Error).message);
      return;
    }
    this.handed.push({ item, bytes: producer.bufferedAmount - before });
    this.retire(producer);
  }

  /** What the browser has sent is done. */
  private retire(producer: types.DataProducer): void {
    let unsent = producer.bufferedAmount;
    let sent = this.handed.length;
    while (sent > 0 && unsent > 0) unsent -= this.handed[--sent]?.bytes ?? 0;
    for (const { item } of this.handed.splice(0, sent)) item.done?.();
  }

  private sent(producer: types.DataProducer): void {
    this.retire(producer);
    void this.flush();
  }
}

/** Resolves when a data producer is open, or will never be. */
function whenOpen(producer: types.DataProducer): Promise<void> {
  if (producer.readyState === 'open' || producer.closed) return Promise.resolve();
  return new Promise((resolve) => {
    producer.once('open', resolve);
    producer.observer.once('close', resolve);
  });
}
