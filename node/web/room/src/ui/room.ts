/** The room: everybody's tiles, the state of the connection, and the controls. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Chat } from '../data/chat';
import type { Signals } from '../data/signals';
import type { LayoutMode } from '../layout';
import type { Meeting } from '../meeting';
import { inviteUrl } from '../options';
import type { Peer } from '../peers';
import type { Outgoing } from '../publisher';
import type { LinkState, Session } from '../session';
import type { Speaker } from '../speaker';
import { Controls } from './controls';
import { Conversation } from './conversation';
import { icon, logo } from './icons';
import { Notices } from './notices';
import { StatsOverlay } from './overlay';
import { showSettings } from './settings';
import { Shortcuts } from './shortcuts';
import { BlockedSound } from './sound';
import { Stage } from './stage';
import { Status } from './status';

export interface RoomActions {
  leave(): void;
  rejoin(): void;
}

/** What goes over data channels. */
export interface Messages {
  chat: Chat;
  signals: Signals;
}

export class RoomView {
  readonly element: HTMLElement;
  private readonly stage: Stage;
  private readonly conversation: Conversation;
  private readonly encrypted = h('span', { class: 'encrypted', attrs: { title: 'What you send is encrypted end to end' } }, icon('lock'), 'Encrypted');
  private readonly invitation: HTMLElement;
  private readonly news = h('p', { class: 'visually-hidden', attrs: { 'aria-live': 'polite' } });
  private readonly notices = new Notices();
  private readonly status: Status;
  private readonly controls: Controls;
  private readonly shortcuts: Shortcuts;
  private readonly overlay: StatsOverlay;
  private readonly cleanup: (() => void)[] = [];
  private link: LinkState = 'connecting';
  private people = 1;
  private hasData = false;
  private readonly sound = new BlockedSound(this.notices, () => this.stage.peers.values());

  constructor(
    private readonly meeting: Meeting,
    private readonly outgoing: Outgoing,
    private readonly speaker: Speaker,
    private readonly messages: Messages,
    displayName: string,
    private readonly room: string,
    actions: RoomActions,
  ) {
    this.stage = new Stage(displayName, outgoing, speaker, {
      soundBlocked: () => this.sound.blocked(),
      pictureSeen: () => meeting.session?.pictureSeen(),
      preferLayer: (consumerId, layer) => meeting.session?.preferLayer(consumerId, layer),
      news: (text) => setText(this.news, text),
    });
    this.overlay = new StatsOverlay(() => meeting.session, this.stage, outgoing);
    const { signals } = messages;
    this.conversation = new Conversation(meeting, messages.chat, signals, this.stage, displayName, {
      changed: () => this.render(),
      news: (text) => setText(this.news, text),
      notice: (text) => this.notices.show({ text }),
      copyLink: () => this.copyLink(),
    });
    const { side } = this.conversation;
    this.status = new Status({ retry: meeting.retryNow, rejoin: actions.rejoin, leave: actions.leave });
    this.controls = new Controls(outgoing, {
      toggleShare: () => void this.toggleShare(),
      toggleHand: () => signals.setHand(!signals.handIsUp),
      prepareReaction: () => signals.prepare(),
      react: (reaction) => signals.react(reaction),
      toggleChat: () => side.toggle('chat'),
      togglePeople: () => side.toggle('people'),
      toggleLayout: () => this.setLayout(this.stage.layout === 'grid' ? 'speaker' : 'grid'),
      toggleStats: () => this.toggleStatistics(),
      copyLink: () => this.copyLink(),
      showSettings: () => this.showSettings(),
      leave: actions.leave,
    });
    this.shortcuts = new Shortcuts(this.controls.shortcuts);
    this.invitation = h(
      'div',
      { class: 'invitation' },
      h('p', {}, 'Nobody else is here yet.'),
      h('button', { class: 'button small', attrs: { type: 'button' }, on: { click: () => void this.invite() } }, icon('link'), 'Copy an invitation'),
    );
    this.invitation.hidden = true;
    this.stage.element.append(this.invitation);
    this.element = h(
      'div',
      { class: 'room' },
      h('header', { class: 'bar' }, logo(), h('h1', { class: 'room-name' }, room), this.conversation.people, this.encrypted, this.status.chip),
      h('div', { class: 'middle' }, this.stage.element, side.element),
      this.controls.element,
      this.notices.element,
      this.status.panel,
      this.news,
    );
    this.follow();
  }

  close(): void {
    for (const end of this.cleanup) end();
    document.querySelector('dialog')?.close();
    this.conversation.close();
    this.controls.close();
    this.stage.close();
    this.overlay.close();
    this.sound.close();
    this.status.close();
    this.element.remove();
  }

  /** Shows why a device cannot be used, if so. */
  showProblems(): void {
    for (const text of Object.values(this.outgoing.media.problems)) this.notices.show({ text });
  }

  private follow(): void {
    const { media, screen, encryption } = this.outgoing;
    this.cleanup.push(
      this.meeting.on('session', (session) => this.followSession(session)),
      this.meeting.on('state', () => this.render()),
      media.on('change', (kind) => {
        // Browsers that play no sound unasked do so for a page that captures.
        if (media.tracks[kind]) this.sound.retry();
        const problem = media.problems[kind];
        if (problem && !media.enabled[kind]) this.notices.show({ text: problem });
        this.render();
      }),
      screen.on('change', () => {
        setText(this.news, screen.track ? 'You share your screen' : 'You do not share your screen any more');
        this.render();
      }),
      encryption.on('change', () => this.encryptionChanged()),
    );
    addEventListener('keydown', this.shortcuts.handle);
    this.cleanup.push(() => removeEventListener('keydown', this.shortcuts.handle));
    this.render();
  }

  private followSession(session: Session): void {
    this.link = 'connecting';
    session.on('peers', (peers) => {
      if (this.meeting.session === session) this.showPeers(peers);
    });
    session.on('speaker', (speaker) => this.stage.showSpeaker(speaker, this.meeting.peerId));
    session.on('notice', (text) => this.notices.show({ text }));
    let dismiss: (() => void) | undefined;
    session.on('link', (state) => {
      this.link = state;
      if (state === 'unreachable') dismiss ??= this.notices.show({ text: session.explainUnreachable(), stays: true });
      else if (state === 'connected') dismiss = void dismiss?.();
      this.render();
    });
    session.on('closed', () => dismiss?.());
  }

  private render(): void {
    const { state, session } = this.meeting;
    const home = session?.home ?? {};
    this.status.render(state, this.link, home);
    // While a reconnection is under way, it is not known yet.
    if (state.name === 'joined' && session) this.hasData = session.hasData;
    this.controls.render({
      layout: this.stage.layout,
      statistics: this.overlay.shown,
      hasData: this.hasData,
      handIsUp: this.messages.signals.handIsUp,
      chatIsOpen: this.conversation.side.shown === 'chat',
      unread: this.conversation.unread,
    });
    this.encrypted.hidden = this.outgoing.encryption.passphrase === undefined;
    this.stage.updateOwn(home);
    const { side, people } = this.conversation;
    for (const element of [this.stage.element, side.element, people, this.controls.element]) element.inert = !this.status.panel.hidden;
    // After a connection was lost the tiles tell of the past until there is a new one.
    if (state.name !== 'connecting') this.element.classList.toggle('stale', state.name !== 'joined');
    if (state.name === 'joined' && session) this.showPeers(session.peers);
    else this.conversation.render(this.people);
  }

  private showPeers(peers: ReadonlyMap<string, Peer>): void {
    // While a reconnection is under way, keep the former tiles until the new list is known.
    const settled = this.meeting.state.name === 'joined';
    this.stage.showPeers(peers, !settled);
    this.people = new Set([...this.stage.peers.values()].map(({ peerId }) => peerId)).size + 1;
    this.conversation.render(this.people);
    this.invitation.hidden = this.people > 1 || !settled;
  }

  private setLayout(layout: LayoutMode): void {
    this.stage.setLayout(layout);
    this.render();
  }

  private toggleStatistics(): void {
    this.overlay.toggle();
    this.render();
  }

  private async toggleShare(): Promise<void> {
    const { screen } = this.outgoing;
    if (screen.track) return screen.stop();
    await screen.share().catch((error: Error) => this.notices.show({ text: `The screen cannot be shared: ${error.message}` }));
  }

  private encryptionChanged(): void {
    const on = this.outgoing.encryption.passphrase !== undefined;
    const text = on
      ? 'What you send is encrypted from now on. The others need the new link to see and hear you.'
      : 'What you send is not encrypted end to end any more.';
    this.notices.show({ text, ...(on && { action: { label: 'Copy the link', run: () => void this.copyLink() } }) });
    this.render();
  }

  private showSettings(): void {
    showSettings(this.outgoing, this.speaker, {
      layout: this.stage.layout,
      setLayout: (layout) => this.setLayout(layout),
      statistics: this.overlay.shown,
      toggleStatistics: () => this.toggleStatistics(),
      showHelp: () => this.shortcuts.help(),
    });
  }

  private async invite(): Promise<void> {
    if (await this.copyLink()) setText(this.invitation.querySelector('p') ?? this.invitation, 'Copied. Send it to somebody.');
  }

  private async copyLink(): Promise<boolean> {
    const url = inviteUrl(location.origin, this.room, this.outgoing.encryption.passphrase);
    try {
      await navigator.clipboard.writeText(url);
      setText(this.news, 'Link copied');
      return true;
    } catch {
      this.notices.show({ text: `The browser does not let the page copy. The link is ${url}` });
      return false;
    }
  }
}
