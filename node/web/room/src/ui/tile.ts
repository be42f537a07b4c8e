/** One picture with name, place, state and, on demand, figures. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import { avatar, hueOf } from './avatar';
import { icon } from './icons';

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
  private readonly lock = h('span', { class: 'lock' }, icon('lock'));
  private readonly figures = h('dl', { class: 'figures' });
  private readonly note = h('p', { class: 'note' });
  private portrait = avatar('');
  private shownName: string | undefined;
  private speaking = false;

  constructor(id: string) {
    const plate = h('div', { class: 'plate' }, this.lock, this.muted, h('span', { class: 'who' }, this.name, this.place));
    this.element = h('li', { class: 'tile', attrs: { 'data-peer': id } }, this.video, this.portrait, this.note, plate, this.figures);
    this.figures.hidden = true;
    this.note.hidden = true;
    this.lock.hidden = true;
  }

  get title(): string {
    return this.name.textContent ?? '';
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

  /** Whether what is shown is encrypted end to end. */
  protected setEncrypted(encrypted: boolean): void {
    this.lock.hidden = !encrypted;
    this.describe();
  }

  private describe(): void {
    const states = [
      this.speaking && 'speaking',
      !this.muted.hidden && 'microphone muted',
      this.element.classList.contains('no-video') && 'camera off',
      !this.lock.hidden && 'encrypted end to end',
      this.note.textContent,
    ].filter(Boolean);
    this.element.setAttribute('aria-label', [this.name.textContent, ...states].join(', '));
  }
}
