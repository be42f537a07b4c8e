/**
 * The room's chat: texts over the data channel `chat`, as mediasoup-demo's clients have it. There is no history at the server: who comes
 * later reads what is written from then on.
 */
import { Emitter } from '../emitter';
import type { Encryption } from '../encryption';
import type { Meeting } from '../meeting';
import type { Session } from '../session';
import { Channel } from './channel';

/** In UTF-16 units: a page of text, and with three bytes for each it still fits what every client takes. */
export const LONGEST_TEXT = 4_000;

/** So many messages are kept: a long meeting's worth, and the browser shows them with ease. */
const LONGEST_HISTORY = 500;

/** So many wait for the connection: whoever writes more does not see that there is none. */
const LONGEST_QUEUE = 20;

export interface ChatMessage {
  /** The peer, or undefined: the user. */
  readonly from: string | undefined;
  /** Empty while nobody has told who that is. */
  name: string;
  readonly at: Date;
  /** Undefined if it is encrypted with a key that the user has not. */
  readonly text: string | undefined;
  readonly encrypted: boolean;
  /** Of the user's own. */
  state: 'sending' | 'sent' | 'failed';
  problem?: string;
}

type Events = {
  /** There is another message, or one has changed. */
  change: undefined;
  /** Somebody else wrote. */
  message: ChatMessage;
};

export class Chat extends Emitter<Events> {
  /** The oldest first. */
  readonly messages: ChatMessage[] = [];
  private readonly channel: Channel;
  private session: Session | undefined;

  constructor(
    meeting: Pick<Meeting, 'on'>,
    private readonly encryption: Pick<Encryption, 'passphrase' | 'sealText' | 'openText'>,
    private readonly ownName: string,
  ) {
    super();
    this.channel = new Channel({ label: 'chat', protocol: '', longestQueue: LONGEST_QUEUE }, encryption);
    this.channel.on('message', ({ peerId, text, encrypted }) => this.receive(peerId, text, encrypted));
    meeting.on('session', (session) => {
      this.session = session;
      this.channel.follow(session);
      session.on('peers', () => this.nameUnknown());
    });
  }

  /** The user is writing. */
  prepare(): void {
    this.channel.prepare();
  }

  /** Sends a text to all others. Gives the words why not, if so. */
  send(text: string): string | undefined {
    const problem = problemOf(text);
    if (problem) return problem;
    const encrypted = this.encryption.passphrase !== undefined;
    const message: ChatMessage = { from: undefined, name: this.ownName, at: new Date(), text: text.trim(), encrypted, state: 'sending' };
    const done = (problem?: string) => {
      message.state = problem === undefined ? 'sent' : 'failed';
      if (problem !== undefined) message.problem = problem;
      this.emit('change', undefined);
    };
    if (!this.channel.send({ text: () => message.text, done })) return 'Too much waits to be sent. Try again when you are connected.';
    this.add(message);
    return undefined;
  }

  private receive(from: string, text: string | undefined, encrypted: boolean): void {
    // Other clients may write more.
    const shown = text !== undefined && text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
    const message: ChatMessage = { from, name: this.nameOf(from), at: new Date(), text: shown, encrypted, state: 'sent' };
    this.add(message);
    this.emit('message', message);
  }

  private add(message: ChatMessage): void {
    this.messages.push(message);
    if (this.messages.length > LONGEST_HISTORY) this.messages.shift();
    this.emit('change', undefined);
  }

  /** Messages may come before the news of who sends them. */
  private nameUnknown(): void {
    for (const message of this.messages) {
      if (message.name || message.from === undefined) continue;
      message.name = this.nameOf(message.from);
      if (message.name) this.emit('change', undefined);
    }
  }

  private nameOf(peerId: string): string {
    return this.session?.peers.get(peerId)?.displayName ?? '';
  }
}

/** Why a text cannot be sent; undefined if it can. */
export function problemOf(text: string): string | undefined {
  const { length } = text.trim();
  if (length === 0) return 'There is nothing to send.';
  const more = length - LONGEST_TEXT;
  if (more > 0) return `The message is too long: leave out ${more === 1 ? '1 character' : `${more} characters`}.`;
  return undefined;
}

/** The parts of a text: addresses of pages, and what is between them. */
export function partsOf(text: string): { text: string; isLink: boolean }[] {
  const parts = text.split(/(\bhttps?:\/\/[^\s<>"]*[^\s<>".,;:!?)\]}'])/);
  return parts.map((text, index) => ({ text, isLink: index % 2 === 1 })).filter(({ text }) => text);
}
