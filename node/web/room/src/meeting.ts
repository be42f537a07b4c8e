/** Being in a room across interruptions: makes sessions, waits between attempts, and knows when to give up. */
import { StaleCapabilities, Session, type SessionOptions } from './session';
import { Emitter } from './emitter';
import { startJoin } from './marks';
import { CLOSED_FOR_GOOD, RequestError, type Closed } from './protoo';

/** Pauses between attempts, in ms; the last one repeats. Short first: most interruptions are a node's restart. */
const BACKOFF_MS = [1_000, 2_000, 4_000, 8_000];

export type MeetingState =
  | { name: 'connecting' }
  | { name: 'joined' }
  /** Not connected; tries again at `retryAt` (ms, `performance.now()`). `lost` tells an interruption from a first failure. */
  | { name: 'waiting'; retryAt: number; reason: string; lost: boolean }
  /** Over, and only the user can begin anew. */
  | { name: 'over'; title: string; reason: string };

type Events = { state: MeetingState; session: Session };

export class Meeting extends Emitter<Events> {
  state: MeetingState = { name: 'connecting' };
  session: Session | undefined;
  private attempts = 0;
  private wasJoined = false;
  private ended = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly options: SessionOptions,
    readonly peerId: string,
    private readonly join = Session.join,
  ) {
    super();
    addEventListener('online', this.retryNow);
  }

  start(): void {
    void this.connect();
  }

  /** Ends the pause between two attempts. */
  readonly retryNow = (): void => {
    if (this.state.name !== 'waiting') return;
    clearTimeout(this.timer);
    void this.connect();
  };

  leave(): void {
    this.ended = true;
    clearTimeout(this.timer);
    removeEventListener('online', this.retryNow);
    this.session?.close();
    this.session = undefined;
  }

  private async connect(): Promise<void> {
    this.enter({ name: 'connecting' });
    startJoin();
    let closed: Closed | undefined;
    try {
      const session = await this.join(this.options, (session) => {
        this.session = session;
        session.on('closed', (how) => {
          closed = how;
          if (this.state.name === 'joined' && this.session === session && !this.ended) this.lost(how);
        });
        this.emit('session', session);
      });
      if (this.ended) session.close();
      else if (closed) this.lost(closed);
      else {
        this.attempts = 0;
        this.wasJoined = true;
        this.enter({ name: 'joined' });
      }
    } catch (error) {
      if (this.ended) return;
      // What the server said when it closed tells more than that it did.
      if (closed?.reason) this.lost(closed);
      else this.failed(error as Error);
    }
  }

  private failed(error: Error): void {
    if (error instanceof StaleCapabilities) void this.connect();
    else if (error instanceof RequestError && error.code >= 400 && error.code < 500) {
      this.enter({ name: 'over', title: 'The server did not let you in', reason: error.message });
    } else if (error.name === 'UnsupportedError') {
      this.enter({ name: 'over', title: 'This browser cannot take part', reason: 'It lacks the WebRTC functions that the page needs. A current Chromium, Firefox or Safari has them.' });
    } else this.wait(error.message);
  }

  private lost({ code, reason }: Closed): void {
    if (code !== CLOSED_FOR_GOOD) this.wait(reason || 'the connection to the server was lost');
    else if (!reason || reason.includes('same peer')) {
      this.enter({ name: 'over', title: 'You joined from another tab', reason: 'This tab left the room because you are in it elsewhere.' });
    } else {
      this.enter({ name: 'over', title: 'The server ended your visit', reason });
    }
  }

  private wait(reason: string): void {
    const pause = BACKOFF_MS[Math.min(this.attempts, BACKOFF_MS.length - 1)] ?? 0;
    this.attempts++;
    this.timer = setTimeout(() => void this.connect(), pause);
    this.enter({ name: 'waiting', retryAt: performance.now() + pause, reason, lost: this.wasJoined });
  }

  private enter(state: MeetingState): void {
    this.state = state;
    this.emit('state', state);
  }
}
