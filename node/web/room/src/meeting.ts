/** Being in a room across interruptions: makes sessions, waits between attempts, and knows when to give up. */
import { StaleCapabilities, Session, type SessionOptions } from './session';
import { Emitter } from './emitter';
import { startJoin } from './marks';
import { RequestError, type Closed } from './protoo';

/** Pauses between attempts, in ms; the last one repeats. Short first: most interruptions are a node's restart. */
const BACKOFF_MS = [1_000, 2_000, 4_000, 8_000];

/** The close code of a client that came later, and of one whose token no longer lets it be there. */
const REPLACED = 4000;
const UNAUTHORISED = 4001;

/** The close code of a server that has no place at the moment (IANA's WebSocket Close Code Number Registry). */
const TRY_AGAIN_LATER = 1013;

/** HTTP's words for the same, and for those who come too often (RFC 6585 section 4). */
const BUSY_STATUS = [429, 503];

/** What is said then. */
const TOLD_TO_WAIT = 'The server asks you to wait';

/** How a server says when that is. */
const COME_BACK = /^(.*): come back in (\d+) ms$/;

/** Whatever a server says, people are not kept waiting for longer without an attempt. */
const LONGEST_PAUSE_MS = 60_000;

export type MeetingState =
  | { name: 'connecting' }
  | { name: 'joined' }
  /** Not connected; tries again at `retryAt` (ms, `performance.now()`). */
  | { name: 'waiting'; retryAt: number; title: string; reason: string }
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
    else if (error instanceof RequestError && BUSY_STATUS.includes(error.code)) this.wait(error.message, { title: TOLD_TO_WAIT });
    else if (error instanceof RequestError && error.code >= 400 && error.code < 500) {
      this.enter({ name: 'over', title: 'The server did not let you in', reason: error.message });
    } else if (error.name === 'UnsupportedError') {
      this.enter({ name: 'over', title: 'This browser cannot take part', reason: 'It lacks the WebRTC functions that the page needs. A current Chromium, Firefox or Safari has them.' });
    } else this.wait(error.message);
  }

  private lost({ code, reason }: Closed): void {
    if (code === UNAUTHORISED || (code === REPLACED && reason && !reason.includes('same peer'))) {
      this.enter({ name: 'over', title: 'The server ended your visit', reason });
    } else if (code === REPLACED) {
      this.enter({ name: 'over', title: 'You joined from another tab', reason: 'This tab left the room because you are in it elsewhere.' });
    } else if (code === TRY_AGAIN_LATER) {
      const [, words, pause] = COME_BACK.exec(reason) ?? [];
      this.wait(words ?? reason, { title: TOLD_TO_WAIT, ...(pause && { pause: Number(pause) }) });
    } else this.wait(reason || 'the connection to the server was lost');
  }

  private wait(reason: string, told: { title?: string; pause?: number } = {}): void {
    const backoff = BACKOFF_MS[Math.min(this.attempts, BACKOFF_MS.length - 1)] ?? 0;
    this.attempts++;
    const pause = Math.min(told.pause ?? backoff, LONGEST_PAUSE_MS);
    this.timer = setTimeout(() => void this.connect(), pause);
    const title = told.title ?? (this.wasJoined ? 'Connection lost' : 'No connection to the server');
    this.enter({ name: 'waiting', retryAt: performance.now() + pause, title, reason });
  }

  private enter(state: MeetingState): void {
    this.state = state;
    this.emit('state', state);
  }
}
