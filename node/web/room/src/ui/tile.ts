/** One person's picture with name, place, state and, on demand, figures. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Peer } from '../peers';
import { mark } from '../marks';
import { avatar, hueOf } from './avatar';
import { icon } from './icons';

/** How long a picture that somebody sends may take to arrive before the tile says that it does not. */
const PICTURE_PATIENCE_MS = 5_000;

/** Before the first picture some browsers show one of this size, which is black. */
const PLACEHOLDER_PX = 2;

/** Lines of the stats overlay: label and value. */
export type Lines = [label: string, value: string][];

export class Tile {
  readonly element: HTMLLIElement;
  protected readonly video = h('video', { attrs: { playsinline: '', autoplay: '' } });
  private readonly name = h('span', { class: 'name' });
  private readonly region = h('span');
  private readonly node = h('span', { class: 'node' });
  private readonly place = h('span', { class: 'place' }, this.region, this.node);
  private readonly muted = h('span', { class: 'muted' }, icon('microphone-off'));
  private readonly figures = h('dl', { class: 'figures' });
  private readonly note = h('p', { class: 'note' });
  private portrait = avatar('');
  private shownName: string | undefined;
  private speaking = false;

  constructor(id: string) {
    const plate = h('div', { class: 'plate' }, this.muted, h('span', { class: 'who' }, this.name, this.place));
    this.element = h('li', { class: 'tile', attrs: { 'data-peer': id } }, this.video, this.portrait, this.note, plate, this.figures);
    this.figures.hidden = true;
    this.note.hidden = true;
  }

  setPerson(name: string, region: string | undefined, node: string | undefined, note = ''): void {
    setText(this.name, name + note);
    setText(this.region, region ?? '');
    setText(this.node, [region && ' · ', node].filter(Boolean).join(''));
    this.place.hidden = !region && !node;
    this.place.style.setProperty('--hue', String(hueOf(region ?? node ?? '')));
    if (name === this.shownName) return;
    this.shownName = name;
    const portrait = avatar(name);
    this.portrait.replaceWith(portrait);
    this.portrait = portrait;
  }

  setSpeaking(speaking: boolean): void {
    this.speaking = speaking;
    this.element.classList.toggle('speaking', speaking);
    this.describe();
  }

  /** Shows figures, or with `undefined` none. */
  setFigures(lines: Lines | undefined): void {
    this.figures.hidden = lines === undefined;
    if (!lines) return;
    this.figures.replaceChildren(...lines.flatMap(([label, value]) => [h('dt', {}, label), h('dd', {}, value)]));
  }

  /** Says something in the middle of the tile. */
  protected setNote(text: string): void {
    setText(this.note, text);
    this.note.hidden = !text;
    this.describe();
  }

  protected setSending(audio: boolean, video: boolean): void {
    this.muted.hidden = audio;
    this.element.classList.toggle('no-audio', !audio);
    this.element.classList.toggle('no-video', !video);
    this.describe();
  }

  private describe(): void {
    const states = [
      this.speaking && 'speaking',
      !this.muted.hidden && 'microphone muted',
      this.element.classList.contains('no-video') && 'camera off',
      this.note.textContent,
    ].filter(Boolean);
    this.element.setAttribute('aria-label', [this.name.textContent, ...states].join(', '));
  }
}

/** The user's own picture, mirrored as in a mirror. */
export class SelfTile extends Tile {
  constructor(private readonly ownName: string) {
    super('self');
    this.element.classList.add('self');
    this.video.muted = true;
  }

  update(
    media: { tracks: { video?: MediaStreamTrack }; enabled: { audio: boolean; video: boolean } },
    home: { region?: string; node?: string },
  ): void {
    this.setPerson(this.ownName, home.region, home.node, ' (you)');
    const track = media.tracks.video;
    const shown = this.video.srcObject instanceof MediaStream ? this.video.srcObject.getVideoTracks()[0] : undefined;
    if (track !== shown) this.video.srcObject = track ? new MediaStream([track]) : null;
    this.setSending(media.enabled.audio, media.enabled.video && track !== undefined);
  }
}

/** Another person's picture and sound. */
export class PeerTile extends Tile {
  private peer: Peer | undefined;
  private tracks = 0;
  private patience: ReturnType<typeof setTimeout> | undefined;

  constructor(
    id: string,
    private readonly soundBlocked: () => void,
    pictureSeen: () => void,
  ) {
    super(id);
    this.video.requestVideoFrameCallback?.((_now, { presentationTime }) => {
      mark('first-frame', presentationTime);
      pictureSeen();
    });
    this.video.addEventListener('resize', () => this.awaitPicture());
  }

  update(peer: Peer): void {
    if (peer !== this.peer) {
      this.peer = peer;
      this.tracks = 0;
      this.video.srcObject = peer.stream;
    }
    this.setPerson(peer.displayName || 'Somebody', peer.region, peer.node);
    this.setSending(peer.isSending('audio'), peer.isSending('video'));
    this.awaitPicture();
    const tracks = peer.stream.getTracks().length;
    if (tracks > this.tracks) void this.play();
    this.tracks = tracks;
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

  /** A tile that stays empty says so. */
  private awaitPicture(): void {
    const waits = this.peer?.isSending('video') === true && this.video.videoWidth <= PLACEHOLDER_PX;
    if (waits) {
      this.patience ??= setTimeout(() => this.setNote('No picture arrives'), PICTURE_PATIENCE_MS);
      return;
    }
    clearTimeout(this.patience);
    this.patience = undefined;
    this.setNote('');
  }

  /** Browsers may refuse to play sound before the user has touched the page: then play the picture alone, and ask. */
  private async play(): Promise<void> {
    try {
      await this.video.play();
    } catch (error) {
      if (!(error instanceof DOMException && error.name === 'NotAllowedError') || this.video.muted) return;
      this.video.muted = true;
      this.soundBlocked();
      await this.play();
    }
  }
}
