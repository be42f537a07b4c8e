/** What people do beside talking: the chat, raised hands and reactions, and the list of who is there. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Chat, ChatMessage } from '../data/chat';
import type { Reaction, Signals } from '../data/signals';
import type { Meeting } from '../meeting';
import { ChatPanel } from './chat-panel';
import { icon } from './icons';
import { PeoplePanel, type Person } from './people-panel';
import { nameOf } from './reactions';
import { Side } from './side';
import type { Stage } from './stage';

/** The list of people changes with each of them: not more often than this. */
const LIST_AFTER_MS = 150;

/** So much of a message is read out by itself. */
const LONGEST_NEWS = 200;

export interface ConversationEvents {
  /** Something that the controls show has changed. */
  changed(): void;
  /** Something for those who do not see it. */
  news(text: string): void;
  /** Something that the user should know of. */
  notice(text: string): void;
  /** Gives the user the link to the room. */
  copyLink(): Promise<boolean>;
}

export class Conversation {
  readonly side: Side<'chat' | 'people'>;
  /** Tells how many are there, and opens the list of them. */
  readonly people: HTMLButtonElement;
  /** Messages of others that the user has not seen. */
  unread = 0;
  private readonly count = h('span');
  private readonly word = h('span', { class: 'count-word' });
  private readonly hands = h('span', { class: 'count-hands' });
  private readonly chatPanel: ChatPanel;
  private readonly peoplePanel: PeoplePanel;
  private readonly cleanup: (() => void)[];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly meeting: Meeting,
    chat: Chat,
    private readonly signals: Signals,
    private readonly stage: Stage,
    private readonly ownName: string,
    private readonly events: ConversationEvents,
  ) {
    this.chatPanel = new ChatPanel(chat);
    this.peoplePanel = new PeoplePanel(() => this.persons(), () => signals.hands, events.copyLink);
    this.side = new Side({ chat: this.chatPanel, people: this.peoplePanel }, () => this.sideChanged());
    this.people = h(
      'button',
      { class: 'count', id: 'people', attrs: { type: 'button', 'aria-controls': 'side', 'aria-keyshortcuts': 'p' }, on: { click: () => this.side.toggle('people') } },
      icon('people'),
      h('span', {}, this.count, this.word),
      this.hands,
    );
    this.people.title = 'Who is here (P)';
    this.cleanup = [
      chat.on('message', (message) => this.wrote(message)),
      signals.on('hand', ({ peerId, up }) => this.handChanged(peerId, up)),
      signals.on('reaction', ({ peerId, reaction }) => this.reacted(peerId, reaction)),
      signals.on('refused', (problem) => events.notice(`Your hand and reactions cannot be shown to the others: ${problem}`)),
    ];
    this.render(1);
  }

  close(): void {
    for (const end of this.cleanup) end();
    clearTimeout(this.timer);
    this.chatPanel.close();
  }

  /** Shows so many people, and whose hands are up. */
  render(people: number): void {
    const { hands } = this.signals;
    setText(this.count, String(people));
    setText(this.word, people === 1 ? ' person' : ' people');
    this.hands.hidden = hands.length === 0;
    this.hands.replaceChildren(icon('hand'), String(hands.length));
    const raised = hands.length === 1 ? '1 hand raised' : `${hands.length} hands raised`;
    this.people.setAttribute('aria-label', [`${people}${this.word.textContent}`, hands.length > 0 && raised].filter(Boolean).join(', '));
    this.people.setAttribute('aria-expanded', String(this.side.shown === 'people'));
    this.stage.showHands(hands, this.meeting.peerId);
    if (this.side.shown === 'people') this.timer ??= setTimeout(() => this.renderList(), LIST_AFTER_MS);
  }

  private renderList(): void {
    this.timer = undefined;
    this.peoplePanel.render();
  }

  private sideChanged(): void {
    if (this.side.shown === 'chat') this.unread = 0;
    this.events.changed();
  }

  private wrote({ name, text }: ChatMessage): void {
    if (this.side.shown === 'chat') return;
    this.unread++;
    this.events.news(`${name || 'Somebody'} writes: ${(text ?? 'something that is encrypted with another key').slice(0, LONGEST_NEWS)}`);
    this.events.changed();
  }

  private handChanged(peerId: string, up: boolean): void {
    const own = peerId === this.meeting.peerId;
    const words = up ? (own ? 'raise your hand' : 'raises a hand') : own ? 'lower your hand' : 'lowers the hand';
    const name = own ? 'You' : this.nameOf(peerId);
    if (name) this.events.news(`${name} ${words}`);
    this.events.changed();
  }

  private reacted(peerId: string, reaction: Reaction): void {
    const own = peerId === this.meeting.peerId;
    this.stage.showReaction(own ? undefined : peerId, reaction);
    const name = this.nameOf(peerId);
    if (name) this.events.news(`${name}: ${nameOf(reaction)}`);
  }

  private nameOf(peerId: string): string | undefined {
    return this.meeting.session?.peers.get(peerId)?.displayName;
  }

  private persons(): Person[] {
    const { session, peerId } = this.meeting;
    const place = ({ region, node }: { region?: string | undefined; node?: string | undefined }) => [region, node].filter(Boolean).join(' · ');
    const others = [...(session?.peers.values() ?? [])].map((peer) => ({
      id: peer.id,
      name: peer.displayName || 'Somebody',
      place: place(peer),
      isSelf: false,
    }));
    return [{ id: peerId, name: this.ownName, place: place(session?.home ?? {}), isSelf: true }, ...others];
  }
}
