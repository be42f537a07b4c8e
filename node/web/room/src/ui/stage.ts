/** Everybody's tiles: which there are, how large each is, and in what quality its picture is asked for. */
import { h } from '@sluice/web-kit/ui/dom';
import type { Reaction } from '../data/signals';
import { grid, largeTile, spotlight, type LayoutMode, type Size, type Spotlight } from '../layout';
import { LayerRequests, layerFor } from '../layers';
import { loadPreferences, savePreferences } from '../options';
import type { Peer } from '../peers';
import type { Outgoing } from '../publisher';
import type { Speaker } from '../speaker';
import { OwnScreenTile, SelfTile } from './own-tiles';
import { PeerTile } from './peer-tile';

/** The shape of a camera's picture. */
const CAMERA_SHAPE = 16 / 9;

export interface StageEvents {
  soundBlocked(): void;
  pictureSeen(): void;
  /** The best layer of a consumer's picture that is of use. */
  preferLayer(consumerId: string, spatialLayer: number): void;
  /** Something for those who do not see the tiles. */
  news(text: string): void;
}

export class Stage {
  readonly element = h('main', { class: 'stage' });
  readonly self: SelfTile;
  /** Tiles of others, by {@link keyOf}. */
  readonly peers = new Map<string, PeerTile>();
  private readonly list = h('ul', { class: 'tiles', attrs: { 'aria-label': 'People in the room' } });
  private ownScreen: OwnScreenTile | undefined;
  private readonly layers: LayerRequests;
  private readonly resized = new ResizeObserver(() => this.arrange());
  private readonly unsubscribe: () => void;
  private mode = loadPreferences().layout;
  private pinned: string | undefined;
  /** Who spoke last, of the others. */
  private lastSpeaker: string | undefined;

  constructor(
    displayName: string,
    private readonly outgoing: Outgoing,
    private readonly speaker: Speaker,
    private readonly events: StageEvents,
  ) {
    this.self = new SelfTile(displayName);
    this.layers = new LayerRequests(events.preferLayer);
    this.list.append(this.self.element);
    this.element.append(this.list);
    this.resized.observe(this.element);
    this.unsubscribe = speaker.on('change', () => this.peers.forEach((tile) => tile.playToSpeaker()));
  }

  close(): void {
    this.unsubscribe();
    this.resized.disconnect();
    this.layers.close();
    for (const tile of this.peers.values()) tile.close();
  }

  get layout(): LayoutMode {
    return this.mode;
  }

  setLayout(mode: LayoutMode): void {
    this.mode = mode;
    savePreferences({ layout: mode });
    this.arrange();
  }

  /** Shows what this page itself sends. */
  updateOwn(home: { region?: string; node?: string }): void {
    this.self.update(this.outgoing, home);
    const shares = this.outgoing.screen.track !== undefined;
    if (shares !== (this.ownScreen !== undefined)) {
      this.ownScreen?.element.remove();
      this.ownScreen = shares ? new OwnScreenTile() : undefined;
      if (this.ownScreen) this.list.append(this.ownScreen.element);
      this.arrange();
    }
    this.ownScreen?.update(this.outgoing);
  }

  /** Shows these peers; with `keeps`, those of whom nothing is known now stay too. */
  showPeers(peers: ReadonlyMap<string, Peer>, keeps: boolean): void {
    for (const [key, tile] of this.peers) {
      const peer = peers.get(tile.peerId);
      if (peer ? tile.source === 'video' || peer.sources.screensharing : keeps) continue;
      tile.close();
      this.peers.delete(key);
      this.events.news(tile.source === 'video' ? `${tile.title} left` : `${tile.title} is not shared any more`);
    }
    for (const peer of peers.values()) {
      this.tile(peer, 'video').update(peer);
      if (peer.sources.screensharing) this.tile(peer, 'screensharing').update(peer);
    }
    this.arrange();
  }

  /** Shows who speaks: nobody, this page's user, or another peer. */
  showSpeaker(speaker: string | null, self: string): void {
    this.self.setSpeaking(speaker === self);
    for (const tile of this.peers.values()) tile.setSpeaking(tile.source === 'video' && tile.peerId === speaker);
    if (speaker === null || speaker === self || speaker === this.lastSpeaker) return;
    this.lastSpeaker = speaker;
    this.arrange();
  }

  /** Shows whose hands are up, in their order. */
  showHands(hands: string[], self: string): void {
    const places = new Map(hands.map((peerId, index) => [peerId, index + 1]));
    this.self.setHand(places.get(self));
    for (const tile of this.peers.values()) if (tile.source === 'video') tile.setHand(places.get(tile.peerId));
  }

  /** Shows a reaction of a peer, or of the user. */
  showReaction(peerId: string | undefined, reaction: Reaction): void {
    const tile = peerId === undefined ? this.self : this.peers.get(keyOf(peerId, 'video'));
    tile?.showReaction(reaction);
  }

  private tile(peer: Peer, source: PeerTile['source']): PeerTile {
    const key = keyOf(peer.id, source);
    let tile = this.peers.get(key);
    if (!tile) {
      const { soundBlocked, pictureSeen } = this.events;
      const chosen = () => this.arrange();
      tile = new PeerTile(peer.id, source, this.speaker, { soundBlocked, pictureSeen, chosen, togglePin: () => this.togglePin(key) });
      this.peers.set(key, tile);
      this.list.append(tile.element);
      if (peer.displayName) this.events.news(`${peer.displayName} ${source === 'video' ? 'joined' : 'shares a screen'}`);
    }
    return tile;
  }

  private togglePin(key: string): void {
    this.pinned = this.pinned === key ? undefined : key;
    this.arrange();
  }

  private large(): PeerTile | undefined {
    const others = [...this.peers.keys()];
    const screens = others.filter((key) => this.peers.get(key)?.source === 'screensharing');
    const speaker = this.lastSpeaker === undefined ? undefined : keyOf(this.lastSpeaker, 'video');
    const key = largeTile({ mode: this.mode, pinned: this.pinned, screens, speaker, others });
    return key === undefined ? undefined : this.peers.get(key);
  }

  private arrange(): void {
    const { clientWidth, clientHeight } = this.element;
    const style = getComputedStyle(this.element);
    const width = clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const height = clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const gap = parseFloat(getComputedStyle(this.list).columnGap) || 0;
    const large = this.large();
    const others = this.list.children.length - 1;
    const spot = large && spotlight(others, width, height, gap);
    const tile = spot?.small ?? grid(others + 1, width, height, gap);
    this.list.classList.toggle('beside', spot?.beside === true);
    this.list.classList.toggle('below', spot?.beside === false);
    this.list.style.setProperty('--others', String(Math.max(1, others)));
    this.setSize('tile', tile);
    if (spot) this.setSize('large', spot.large);
    for (const [key, other] of this.peers) {
      other.element.classList.toggle('large', other === large);
      other.setPinned(key === this.pinned);
    }
    this.askForLayers(large, spot, tile);
  }

  private setSize(name: string, { width, height }: Size): void {
    this.list.style.setProperty(`--${name}-width`, `${width}px`);
    this.list.style.setProperty(`--${name}-height`, `${height}px`);
  }

  private askForLayers(large: PeerTile | undefined, spot: Spotlight | undefined, small: Size): void {
    const wanted = new Map<string, number>();
    for (const tile of this.peers.values()) {
      const { picture } = tile;
      if (!picture || picture.spatialLayers < 2) continue;
      const isLarge = tile === large && spot !== undefined;
      const { width, height } = isLarge ? spot.large : small;
      // A picture fills its tile, but a large one beside others is there as a whole.
      const fit = isLarge && spot.beside ? Math.min : Math.max;
      const pixels = fit(width, height * CAMERA_SHAPE) * devicePixelRatio;
      wanted.set(picture.consumerId, layerFor(tile.choice, picture.spatialLayers, pixels));
    }
    this.layers.want(wanted);
  }
}

/** Names a tile. */
export function keyOf(peerId: string, source: PeerTile['source']): string {
  return source === 'video' ? peerId : `${peerId} ${source}`;
}
