/** Another person's picture and sound, or their screen. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Source } from '../demo-v3';
import { CHOICES, layerName, type LayerChoice } from '../layers';
import { mark } from '../marks';
import type { Incoming, Peer } from '../peers';
import { icon } from './icons';
import { Tile } from './tile';

/** How long a picture that somebody sends may take to arrive before the tile says that it does not. */
const PICTURE_PATIENCE_MS = 5_000;

/** Before the first picture some browsers show one of this size, which is black. */
const PLACEHOLDER_PX = 2;

const CHOICE_LABELS: Record<LayerChoice, string> = { auto: 'Auto', high: 'High', medium: 'Medium', low: 'Low' };

export interface PeerTileActions {
  /** The tile had to be muted. */
  soundBlocked(): void;
  pictureSeen(): void;
  /** Another quality was chosen. */
  chosen(): void;
  togglePin(): void;
}

export class PeerTile extends Tile {
  private peer: Peer | undefined;
  private tracks = 0;
  private patience: ReturnType<typeof setTimeout> | undefined;
  private overdue = false;
  private readonly quality = h('select', { class: 'quality', attrs: { title: 'Picture quality' } });
  private readonly pin = h('button', { class: 'icon-button', attrs: { type: 'button', 'aria-pressed': 'false' } }, icon('pin'));

  constructor(
    readonly peerId: string,
    readonly source: Exclude<Source, 'audio'>,
    readonly player: { playTo(element: HTMLMediaElement): Promise<void> },
    private readonly actions: PeerTileActions,
  ) {
    super(source === 'video' ? peerId : `${peerId} ${source}`);
    this.element.classList.toggle('screen', source === 'screensharing');
    this.quality.append(...CHOICES.map((choice) => h('option', { attrs: { value: choice } }, CHOICE_LABELS[choice])));
    this.quality.addEventListener('change', actions.chosen);
    this.pin.addEventListener('click', actions.togglePin);
    this.element.append(h('div', { class: 'tools' }, this.quality, this.pin));
    this.video.requestVideoFrameCallback?.((_now, { presentationTime }) => {
      mark('first-frame', presentationTime);
      actions.pictureSeen();
    });
    this.video.addEventListener('resize', () => this.awaitPicture());
    this.playToSpeaker();
  }

  /** What is received to show it here. */
  get picture(): Incoming | undefined {
    return this.peer?.sources[this.source];
  }

  get choice(): LayerChoice {
    return this.quality.value as LayerChoice;
  }

  update(peer: Peer): void {
    const stream = peer.streamOf(this.source);
    if (peer !== this.peer) {
      this.peer = peer;
      this.tracks = 0;
      this.video.srcObject = stream;
    }
    const name = peer.displayName || 'Somebody';
    if (this.source === 'video') this.setPerson(name, peer.region, peer.node);
    else this.setPerson(`Screen of ${name}`, undefined, undefined);
    this.setSending(this.source !== 'video' || peer.isSending('audio'), peer.isSending(this.source));
    this.setEncrypted(this.shown.length > 0 && this.shown.every(({ encrypted }) => encrypted));
    this.element.classList.toggle('unreadable', this.shown.some(({ unreadable }) => unreadable));
    this.showQuality();
    this.awaitPicture();
    const tracks = stream.getTracks().length;
    if (tracks > this.tracks) void this.play();
    this.tracks = tracks;
  }

  setPinned(pinned: boolean): void {
    const label = `${pinned ? 'Unpin' : 'Pin'} ${this.title}`;
    this.pin.setAttribute('aria-pressed', String(pinned));
    this.pin.setAttribute('aria-label', label);
    this.pin.title = pinned ? 'Unpin' : 'Show large';
  }

  /** Sound comes from the chosen device. */
  playToSpeaker(): void {
    void this.player.playTo(this.video);
  }

  /** Tries again to play with sound. */
  unmute(): void {
    if (!this.video.muted) return;
    this.video.muted = false;
    void this.play();
  }

  close(): void {
    clearTimeout(this.patience);
    this.video.srcObject = null;
    this.element.remove();
  }

  /** What comes of the peer here: a picture, and with a camera's sound. */
  private get shown(): Incoming[] {
    const sources = this.source === 'video' ? (['video', 'audio'] as const) : ([this.source] as const);
    return sources.map((source) => this.peer?.sources[source]).filter((incoming) => incoming !== undefined);
  }

  private showQuality(): void {
    const { spatialLayers = 1, spatialLayer } = this.picture ?? {};
    this.quality.hidden = spatialLayers < 2 || !this.peer?.isSending(this.source);
    this.quality.setAttribute('aria-label', `Picture quality of ${this.title}`);
    const now = typeof spatialLayer === 'number' ? ` · ${layerName(spatialLayer, spatialLayers)}` : '';
    for (const [index, choice] of CHOICES.entries()) {
      const option = this.quality.options[index];
      if (option) setText(option, CHOICE_LABELS[choice] + (choice === 'auto' ? now : ''));
    }
  }

  /** A tile that stays empty says so, and why if that is known. */
  private awaitPicture(): void {
    const waits = this.peer?.isSending(this.source) === true && this.video.videoWidth <= PLACEHOLDER_PX;
    if (waits) {
      this.patience ??= setTimeout(() => {
        this.overdue = true;
        this.explain();
      }, PICTURE_PATIENCE_MS);
    } else {
      clearTimeout(this.patience);
      this.patience = undefined;
      this.overdue = false;
    }
    this.explain();
  }

  private explain(): void {
    const { picture } = this;
    if (this.shown.some(({ unreadable }) => unreadable)) this.setNote('Encrypted with a key that you do not have');
    else if (picture && !picture.paused && picture.spatialLayer === null) this.setNote('Paused: your network');
    else this.setNote(this.overdue ? 'No picture arrives' : '');
  }

  /** Browsers may refuse to play sound before the user has touched the page: then play the picture alone, and ask. */
  private async play(): Promise<void> {
    try {
      await this.video.play();
    } catch (error) {
      if (!(error instanceof DOMException && error.name === 'NotAllowedError') || this.video.muted) return;
      this.video.muted = true;
      this.actions.soundBlocked();
      await this.play();
    }
  }
}
