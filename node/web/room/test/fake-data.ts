/** Sessions with data channels that the test is the other end of, and time that it lets pass. */
import { beforeEach, mock } from 'node:test';
import type { types } from 'mediasoup-client';
import type { DataMessage, Origin } from '../src/data/data-receiver';
import { Emitter } from '../src/emitter';
import type { Encryption } from '../src/encryption';
import type { Meeting } from '../src/meeting';
import type { Session } from '../src/session';
import { settle } from './fake-socket';

/** A data producer, as mediasoup-client has it. */
export class FakeDataProducer {
  readyState = 'open';
  closed = false;
  bufferedAmount = 0;
  readonly sent: unknown[] = [];
  readonly observer = { once: (_event: string, listener: () => void) => this.ends.push(listener) };
  private readonly ends: (() => void)[] = [];
  private drained = () => {};

  /** `holds`: what is sent stays in the browser until {@link drain}. */
  constructor(
    readonly label: string,
    readonly holds: boolean,
  ) {}

  on(_event: 'bufferedamountlow', listener: () => void): void {
    this.drained = listener;
  }

  once(): void {}

  send(data: string | ArrayBuffer): void {
    this.sent.push(data);
    if (this.holds) this.bufferedAmount += typeof data === 'string' ? data.length : data.byteLength;
  }

  async drain(): Promise<void> {
    this.bufferedAmount = 0;
    this.drained();
    await settle();
  }

  close(): void {
    this.closed = true;
    for (const end of this.ends) end();
  }
}

type Events = { data: DataMessage; dataEnded: Origin; closed: undefined; arrival: number; peers: undefined };

export class FakeSession extends Emitter<Events> {
  readonly peers = new Map<string, { displayName: string }>();
  readonly producers: FakeDataProducer[] = [];
  /** What the next data producers come to, if not to one. */
  readonly failures: Error[] = [];
  holds = false;

  async produceData(label: string): Promise<types.DataProducer> {
    const failure = this.failures.shift();
    if (failure) throw failure;
    const producer = new FakeDataProducer(label, this.holds);
    this.producers.push(producer);
    return producer as unknown as types.DataProducer;
  }

  get producer(): FakeDataProducer | undefined {
    return this.producers.at(-1);
  }

  /** A peer says something. */
  async hear(peerId: string, label: 'chat' | 'signals', data: string | ArrayBuffer): Promise<void> {
    this.emit('data', { peerId, label, data });
    await settle();
  }

  /** A peer's channel ends. */
  async end(peerId: string, label: 'chat' | 'signals'): Promise<void> {
    this.emit('dataEnded', { peerId, label });
    await settle();
  }

  /** Somebody comes, and so many are there. */
  arrive(people: number): void {
    this.emit('arrival', people);
  }

  name(peerId: string, displayName: string): void {
    this.peers.set(peerId, { displayName });
    this.emit('peers', undefined);
  }

  close(): void {
    for (const producer of this.producers) if (!producer.closed) producer.close();
    this.emit('closed', undefined);
  }
}

export class FakeMeeting extends Emitter<{ session: Session }> {
  readonly peerId = 'me';

  async begin(session: FakeSession): Promise<FakeSession> {
    this.emit('session', session as unknown as Session);
    await settle();
    return session;
  }

  get real(): Meeting {
    return this as unknown as Meeting;
  }
}

/** Nothing is encrypted; but what is said to be. */
export const CLEAR: Pick<Encryption, 'passphrase' | 'sealText' | 'openText'> = {
  passphrase: undefined,
  sealText: (_label, text) => Promise.resolve(text),
  openText: (_label, data) =>
    Promise.resolve(typeof data === 'string' ? { text: data, encrypted: false } : { text: undefined, encrypted: true }),
};

let now = 0;
let timers: { at: number; run: () => void }[] = [];

/** Time passes only in {@link pass}, for each test of a file that calls this. */
export function stopTime(): void {
  beforeEach(() => {
    now = 0;
    timers = [];
    mock.restoreAll();
    mock.method(performance, 'now', () => now);
    mock.method(globalThis, 'setTimeout', (run: () => void, ms: number) => {
      const timer = { at: now + ms, run };
      timers.push(timer);
      return timer;
    });
  });
}

/** Lets so much time pass, and what is due happen. */
export async function pass(ms: number): Promise<void> {
  const end = now + ms;
  await settle();
  for (;;) {
    const [next] = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
    if (!next) break;
    timers = timers.filter((timer) => timer !== next);
    now = Math.max(now, next.at);
    next.run();
    await settle();
  }
  now = end;
}
