/** The bar at the bottom of the room. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Reaction } from '../data/signals';
import type { LayoutMode } from '../layout';
import type { Outgoing } from '../publisher';
import { icon, type IconName } from './icons';
import { ReactionChoice } from './reactions';
import type { Shortcut } from './shortcuts';
import { MediaToggle } from './toggle';

export interface ControlActions {
  toggleShare(): void;
  toggleHand(): void;
  /** A reaction is being chosen. */
  prepareReaction(): void;
  react(reaction: Reaction): void;
  toggleChat(): void;
  togglePeople(): void;
  toggleLayout(): void;
  toggleStats(): void;
  copyLink(): Promise<boolean>;
  showSettings(): void;
  leave(): void;
}

/** What the controls show. */
export interface ControlState {
  layout: LayoutMode;
  statistics: boolean;
  /** Whether there is a way for chat, hands and reactions. */
  hasData: boolean;
  handIsUp: boolean;
  chatIsOpen: boolean;
  /** Messages that were not seen. */
  unread: number;
}

/** More messages are not counted on the button. */
const MOST_UNREAD = 99;

/** How long "Copied" stays. */
const COPIED_MS = 2_000;

const HAND_LABELS = { up: 'Lower your hand', down: 'Raise your hand' };

const COPY_LABEL = 'Copy the link to this room';

export class Controls {
  readonly element: HTMLElement;
  private readonly audio: MediaToggle;
  private readonly video: MediaToggle;
  private readonly share: HTMLButtonElement;
  private readonly hand: HTMLButtonElement;
  private readonly reactions: ReactionChoice;
  private readonly chat: HTMLButtonElement;
  private readonly badge = h('span', { class: 'badge', attrs: { 'aria-hidden': 'true' } });
  private readonly layout: HTMLButtonElement;
  private readonly stats: HTMLButtonElement;
  private readonly copy: HTMLButtonElement;
  private hasData = false;

  constructor(
    private readonly outgoing: Outgoing,
    private readonly actions: ControlActions,
  ) {
    this.audio = new MediaToggle(outgoing.media, 'audio');
    this.video = new MediaToggle(outgoing.media, 'video');
    this.share = round('share', 'screen', 'Share your screen', 's', actions.toggleShare);
    this.hand = round('hand', 'hand', HAND_LABELS.down, 'h', actions.toggleHand);
    const react = round('react', 'smile', 'React', 'e', () => this.reactions.toggle());
    this.reactions = new ReactionChoice(react, { prepare: actions.prepareReaction, react: actions.react });
    this.chat = round('chat', 'chat', 'Chat', 't', actions.toggleChat);
    this.chat.append(this.badge);
    this.layout = round('layout-mode', 'speaker-large', 'Show the speaker large', 'l', actions.toggleLayout);
    this.stats = round('stats', 'stats', 'Show statistics', 'i', actions.toggleStats);
    this.copy = round('copy', 'link', COPY_LABEL, 'c', () => void this.copyLink());
    const settings = round('settings', 'settings', 'Settings', ',', actions.showSettings);
    const leave = round('leave', 'leave', 'Leave the room', undefined, actions.leave);
    leave.classList.add('leave');
    this.share.hidden = !outgoing.screen.canBeShared;
    this.element = h(
      'div',
      { class: 'controls', attrs: { role: 'group', 'aria-label': 'Meeting controls' } },
      this.audio.element,
      this.video.element,
      this.share,
      this.hand,
      this.reactions.element,
      this.chat,
      this.layout,
      this.stats,
      this.copy,
      settings,
      leave,
    );
  }

  /** The keys that do what the buttons do. */
  get shortcuts(): Shortcut[] {
    const { actions, outgoing } = this;
    const available = () => this.hasData;
    return [
      { key: 'm', does: 'Microphone on or off', run: () => this.audio.toggle() },
      { key: 'v', does: 'Camera on or off', run: () => this.video.toggle() },
      ...(outgoing.screen.canBeShared ? [{ key: 's', does: 'Share your screen, or stop', run: actions.toggleShare }] : []),
      { key: 'h', does: 'Raise your hand, or lower it', available, run: actions.toggleHand },
      { key: 'e', does: 'React', available, run: () => this.reactions.toggle() },
      { key: 't', does: 'Chat', available, run: actions.toggleChat },
      { key: 'p', does: 'Who is here', run: actions.togglePeople },
      { key: 'l', does: 'The speaker large, or everybody alike', run: actions.toggleLayout },
      { key: 'i', does: 'Statistics', run: actions.toggleStats },
      { key: 'c', does: COPY_LABEL, run: () => void this.copyLink() },
      { key: ',', does: 'Settings', run: actions.showSettings },
    ];
  }

  close(): void {
    this.reactions.close();
  }

  render({ layout, statistics, hasData, handIsUp, chatIsOpen, unread }: ControlState): void {
    this.audio.render();
    this.video.render();
    this.hasData = hasData;
    this.hand.hidden = this.reactions.element.hidden = this.chat.hidden = !hasData;
    press(this.hand, handIsUp);
    name(this.hand, HAND_LABELS[handIsUp ? 'up' : 'down'], 'h');
    this.chat.classList.toggle('active', chatIsOpen);
    this.chat.setAttribute('aria-expanded', String(chatIsOpen));
    this.badge.hidden = unread === 0;
    setText(this.badge, unread > MOST_UNREAD ? `${MOST_UNREAD}+` : String(unread));
    const messages = unread === 1 ? '1 new message' : `${unread} new messages`;
    name(this.chat, unread > 0 ? `Chat, ${messages}` : 'Chat', 't');
    press(this.share, this.outgoing.screen.track !== undefined);
    press(this.layout, layout === 'speaker');
    press(this.stats, statistics);
  }

  private async copyLink(): Promise<void> {
    if (!(await this.actions.copyLink())) return;
    this.copy.replaceChildren(icon('check'));
    this.copy.setAttribute('aria-label', 'Link copied');
    setTimeout(() => {
      this.copy.replaceChildren(icon('link'));
      this.copy.setAttribute('aria-label', COPY_LABEL);
    }, COPIED_MS);
  }
}

function press(button: HTMLButtonElement, on: boolean): void {
  button.classList.toggle('active', on);
  button.setAttribute('aria-pressed', String(on));
}

function name(button: HTMLButtonElement, label: string, key: string | undefined): void {
  button.setAttribute('aria-label', label);
  button.title = key ? `${label} (${key.toUpperCase()})` : label;
}

function round(id: string, image: IconName, label: string, key: string | undefined, run: () => void): HTMLButtonElement {
  const button = h('button', {
    class: 'round',
    id,
    attrs: { type: 'button', 'aria-keyshortcuts': key },
    on: { click: run },
  });
  name(button, label, key);
  button.append(icon(image));
  return button;
}
