/** The room: everybody's tiles, the state of the connection, and the controls. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { LocalMedia } from '../devices';
import { grid } from '../layout';
import type { Meeting } from '../meeting';
import { inviteUrl } from '../options';
import type { Peer } from '../peers';
import type { LinkState, Session } from '../session';
import { Controls } from './controls';
import { icon, logo } from './icons';
import { Notices } from './notices';
import { StatsOverlay } from './overlay';
import { BlockedSound } from './sound';
import { Status } from './status';
import { PeerTile, SelfTile } from './tile';

export interface RoomActions {
  leave(): void;
  rejoin(): void;
}

export class RoomView {
  readonly element: HTMLElement;
  private readonly tiles: { self: SelfTile; peers: Map<string, PeerTile> };
  private readonly list = h('ul', { class: 'tiles', attrs: { 'aria-label': 'People in the room' } });
  private readonly stage = h('main', { class: 'stage' });
  private readonly count = h('span', { class: 'count' });
  private readonly invitation: HTMLElement;
  private readonly news = h('p', { class: 'visually-hidden', attrs: { 'aria-live': 'polite' } });
  private readonly notices = new Notices();
  private readonly status: Status;
  private readonly controls: Controls;
  private readonly overlay: StatsOverlay;
  private readonly resized = new ResizeObserver(() => this.arrange());
  private readonly cleanup: (() => void)[] = [];
  private link: LinkState = 'connecting';
  private readonly sound = new BlockedSound(this.notices, () => this.tiles.peers.values());

  constructor(
    private readonly meeting: Meeting,
    private readonly media: LocalMedia,
    displayName: string,
    private readonly room: string,
    actions: RoomActions,
  ) {
    this.tiles = { self: new SelfTile(displayName), peers: new Map() };
    this.overlay = new StatsOverlay(() => meeting.session, this.tiles);
    this.status = new Status({ retry: meeting.retryNow, rejoin: actions.rejoin, leave: actions.leave });
    this.controls = new Controls(media, {
      toggleStats: () => this.overlay.toggle(),
      copyLink: () => this.copyLink(),
      leave: actions.leave,
    });
    this.invitation = h(
      'div',
      { class: 'invitation' },
      h('p', {}, 'Nobody else is here yet.'),
      h('button', { class: 'button small', attrs: { type: 'button' }, on: { click: () => void this.invite() } }, icon('link'), 'Copy an invitation'),
    );
    this.invitation.hidden = true;
    this.list.append(this.tiles.self.element);
    this.stage.append(this.list, this.invitation);
    this.element = h(
      'div',
      { class: 'room' },
      h('header', { class: 'bar' }, logo(), h('h1', { class: 'room-name' }, room), this.count, this.status.chip),
      this.stage,
      this.controls.element,
      this.notices.element,
      this.status.panel,
      this.news,
    );
    this.follow();
  }

  close(): void {
    for (const end of this.cleanup) end();
    this.resized.disconnect();
    this.overlay.close();
    this.sound.close();
    this.status.close();
    for (const tile of this.tiles.peers.values()) tile.close();
    this.element.remove();
  }

  /** Shows why a device cannot be used, if so. */
  showProblems(): void {
    for (const text of Object.values(this.media.problems)) this.notices.show({ text });
  }

  private follow(): void {
    this.resized.observe(this.stage);
    this.cleanup.push(
      this.meeting.on('session', (session) => this.followSession(session)),
      this.meeting.on('state', () => this.render()),
      this.media.on('change', (kind) => {
        // Browsers that play no sound unasked do so for a page that captures.
        if (this.media.tracks[kind]) this.sound.retry();
        const problem = this.media.problems[kind];
        if (problem && !this.media.enabled[kind]) this.notices.show({ text: problem });
        this.render();
      }),
    );
    addEventListener('keydown', this.controls.key);
    this.cleanup.push(() => removeEventListener('keydown', this.controls.key));
    this.render();
  }

  private followSession(session: Session): void {
    this.link = 'connecting';
    session.on('peers', (peers) => {
      if (this.meeting.session === session) this.showPeers(peers);
    });
    session.on('speaker', (speaker) => this.showSpeaker(speaker));
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
    this.controls.render();
    this.tiles.self.update(this.media, home);
    this.stage.inert = this.controls.element.inert = !this.status.panel.hidden;
    // After a connection was lost the tiles tell of the past until there is a new one.
    if (state.name !== 'connecting') this.element.classList.toggle('stale', state.name !== 'joined');
    if (state.name === 'joined' && session) this.showPeers(session.peers);
  }

  private showPeers(peers: ReadonlyMap<string, Peer>): void {
    // While a reconnection is under way, keep the former tiles until the new list is known.
    const settled = this.meeting.state.name === 'joined';
    for (const [id, tile] of this.tiles.peers) {
      if (peers.has(id) || !settled) continue;
      tile.close();
      this.tiles.peers.delete(id);
      setText(this.news, `${tile.element.getAttribute('aria-label') ?? 'Somebody'} left`);
    }
    for (const peer of peers.values()) this.tile(peer).update(peer);
    const people = this.tiles.peers.size + 1;
    setText(this.count, people === 1 ? '1 person' : `${people} people`);
    this.invitation.hidden = people > 1 || !settled;
    this.arrange();
  }

  private tile(peer: Peer): PeerTile {
    let tile = this.tiles.peers.get(peer.id);
    if (!tile) {
      tile = new PeerTile(
        peer.id,
        () => this.sound.blocked(),
        () => this.meeting.session?.pictureSeen(),
      );
      this.tiles.peers.set(peer.id, tile);
      this.list.append(tile.element);
      if (peer.displayName) setText(this.news, `${peer.displayName} joined`);
    }
    return tile;
  }

  private showSpeaker(speaker: string | null): void {
    this.tiles.self.setSpeaking(speaker === this.meeting.peerId);
    for (const [id, tile] of this.tiles.peers) tile.setSpeaking(id === speaker);
  }

  private arrange(): void {
    const { clientWidth, clientHeight } = this.stage;
    const style = getComputedStyle(this.stage);
    const width = clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const height = clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const tile = grid(this.tiles.peers.size + 1, width, height, parseFloat(getComputedStyle(this.list).gap) || 0);
    this.list.style.setProperty('--tile-width', `${tile.width}px`);
    this.list.style.setProperty('--tile-height', `${tile.height}px`);
  }

  private async invite(): Promise<void> {
    if (await this.copyLink()) setText(this.invitation.querySelector('p') ?? this.invitation, 'Copied. Send it to somebody.');
  }

  private async copyLink(): Promise<boolean> {
    const url = inviteUrl(location.origin, this.room);
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
