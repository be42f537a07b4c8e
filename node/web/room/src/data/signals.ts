/**
 * Raised hands and reactions, over the data channel `signals`, protocol `sluice-signals`. A message is JSON:
 *
 *     {"hand": true, "forMs": 1500}    the hand is up, and has been for so long
 *     {"hand": false}                  it is down
 *     {"reaction": "👍"}               one of REACTIONS
 *
 * A hand that is up is told again when somebody comes, and is down when the peer's channel ends. Anything else is ignored.
 */
import { Emitter } from '../emitter';
import type { Encryption } from '../encryption';
import type { Meeting } from '../meeting';
import { Channel } from './channel';

export const REACTIONS = ['👍', '👏', '❤️', '😂', '😮', '🎉'] as const;
export type Reaction = (typeof REACTIONS)[number];

/** No message is longer. */
const LONGEST_MESSAGE = 200;

/** More hands nobody counts. */
const MOST_HANDS = 1_000;

/** What waits longer, or behind so much, comes at another moment than it was meant for. */
const REACTION_WITHIN_MS = 5_000;
const LONGEST_QUEUE = 8;

/** Whoever clicks faster is not understood better. */
const BETWEEN_REACTIONS_MS = 250;

/**
 * Whoever comes can receive after this, and hears of a hand within so much more: longer in a large room, where people come all the
 * time and each time costs as many messages as there are people.
 */
const SETTLED_AFTER_MS = 1_000;
const SPREAD_MS = { least: 1_000, perPerson: 20, most: 30_000 };

/** Longer no meeting takes. */
const LONGEST_RAISED_MS = 24 * 3_600_000;

type Events = {
  /** A hand went up or down. */
  hand: { peerId: string; up: boolean };
  reaction: { peerId: string; reaction: Reaction };
  /** The own hand or reaction cannot be shown to others, and why. */
  refused: string;
};

export class Signals extends Emitter<Events> {
  private readonly ownId: string;
  private readonly channel: Channel;
  /** When hands were raised (ms, `performance.now()`), by peer. */
  private readonly raised = new Map<string, number>();
  private repeating: ReturnType<typeof setTimeout> | undefined;
  /** Somebody came since it was decided to tell the hand again. */
  private moreCame = false;
  private lastReaction = -Infinity;

  constructor(
    meeting: Pick<Meeting, 'on' | 'peerId'>,
    encryption: Pick<Encryption, 'sealText' | 'openText'>,
    private readonly random: () => number = Math.random,
  ) {
    super();
    this.ownId = meeting.peerId;
    const greeting = () => (this.handIsUp ? this.handText() : undefined);
    this.channel = new Channel({ label: 'signals', protocol: 'sluice-signals', longestQueue: LONGEST_QUEUE, greeting }, encryption);
    this.channel.on('message', ({ peerId, text }) => this.receive(peerId, text ?? ''));
    this.channel.on('gone', (peerId) => this.lower(peerId));
    this.channel.on('refused', (problem) => {
      this.lower(this.ownId);
      this.emit('refused', problem);
    });
    meeting.on('session', (session) => {
      this.channel.follow(session);
      session.on('arrival', (people) => this.repeatHand(people));
    });
  }

  get handIsUp(): boolean {
    return this.raised.has(this.ownId);
  }

  /** The peers whose hands are up, the user among them, in the order in which they were raised. */
  get hands(): string[] {
    return [...this.raised].sort(([, a], [, b]) => a - b).map(([peerId]) => peerId);
  }

  /** The user is choosing a reaction. */
  prepare(): void {
    this.channel.prepare();
  }

  setHand(up: boolean): void {
    if (up === this.handIsUp) return;
    if (up) this.raise(this.ownId, performance.now());
    else this.lower(this.ownId);
    if (this.channel.isOpen) this.channel.send({ text: () => this.handText() });
    // What is said first over the channel tells it.
    else this.channel.prepare();
  }

  react(reaction: Reaction): void {
    const at = performance.now();
    if (at - this.lastReaction < BETWEEN_REACTIONS_MS) return;
    this.lastReaction = at;
    const text = () => (performance.now() - at < REACTION_WITHIN_MS ? JSON.stringify({ reaction }) : undefined);
    this.channel.send({ text });
    this.emit('reaction', { peerId: this.ownId, reaction });
  }

  close(): void {
    clearTimeout(this.repeating);
  }

  private handText(): string {
    const since = this.raised.get(this.ownId);
    return JSON.stringify(since === undefined ? { hand: false } : { hand: true, forMs: Math.round(performance.now() - since) });
  }

  private receive(peerId: string, text: string): void {
    const { hand, forMs, reaction } = parse(text);
    if (hand === true) {
      const raisedForMs = typeof forMs === 'number' ? Math.min(Math.max(forMs, 0), LONGEST_RAISED_MS) : 0;
      this.raise(peerId, performance.now() - raisedForMs);
    } else if (hand === false) {
      this.lower(peerId);
    }
    const known = REACTIONS.find((one) => one === reaction);
    if (known) this.emit('reaction', { peerId, reaction: known });
  }

  private raise(peerId: string, at: number): void {
    if (this.raised.has(peerId) || this.raised.size >= MOST_HANDS) return;
    this.raised.set(peerId, at);
    this.emit('hand', { peerId, up: true });
  }

  private lower(peerId: string): void {
    if (this.raised.delete(peerId)) this.emit('hand', { peerId, up: false });
  }

  /** Tells those who have come. All who come until then are told at once, and who comes later the next time. */
  private repeatHand(people: number): void {
    if (!this.handIsUp) return;
    if (this.repeating !== undefined) {
      this.moreCame = true;
      return;
    }
    const spread = Math.min(SPREAD_MS.least + SPREAD_MS.perPerson * people, SPREAD_MS.most);
    this.repeating = setTimeout(() => {
      this.repeating = undefined;
      if (this.handIsUp && this.channel.isOpen) this.channel.send({ text: () => this.handText() });
      if (this.moreCame) {
        this.moreCame = false;
        this.repeatHand(people);
      }
    }, SETTLED_AFTER_MS + this.random() * spread);
  }
}

function parse(text: string): { hand?: unknown; forMs?: unknown; reaction?: unknown } {
  if (text.length > LONGEST_MESSAGE) return {};
  try {
    return (JSON.parse(text) as object | null) ?? {};
  } catch {
    return {};
  }
}
