/** One picture with name, place, state and, on demand, figures. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Reaction } from '../data/signals';
import { avatar, hueOf } from './avatar';
import { handBadge } from './hand';
import { icon } from './icons';

/** Lines of the stats overlay: label and value. */
export type Lines = [label: string, value: string][];

/** How long a reaction is seen, as the styles move it. */
const REACTION_MS = 4_000;

/** More at a time would hide the picture. */
const MOST_REACTIONS = 6;

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
  private hand: HTMLElement | undefined;
  private readonly plate: HTMLElement;
  private readonly reactions = h('div', { class: 'floating', attrs: { 'aria-hidden': 'true' } });

  constructor(id: string) {
    this.plate = h('div', { class: 'plate' }, this.lock, this.muted, h('span', { class: 'who' }, this.name, this.place));
    const { video, portrait, note, plate, figures, reactions } = this;
    this.element = h('li', { class: 'tile', attrs: { 'data-peer': id } }, video, portrait, note, plate, figures, reactions);
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

  /** Shows that the hand is up, and its place among others, from 1; or that it is not. */
  setHand(place: number | undefined): void {
    if (String(place ?? '') === (this.hand?.textContent ?? '')) return;
    this.hand?.remove();
    this.hand = place === undefined ? undefined : handBadge(place);
    if (this.hand) this.plate.prepend(this.hand);
    this.element.classList.toggle('hand-up', place !== undefined);
    this.describe();
  }

  showReaction(reaction: Reaction): void {
    if (this.reactions.childElementCount >= MOST_REACTIONS) return;
    const element = h('span', { class: 'reaction' }, reaction);
    // Several at a time are beside each other.
    element.style.setProperty('--drift', String(Math.random() * 2 - 1));
    this.reactions.append(element);
    setTimeout(() => element.remove(), REACTION_MS);
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
      this.hand && 'hand raised',
      !this.muted.hidden && 'microphone muted',
      this.element.classList.contains('no-video') && 'camera off',
      !this.lock.hidden && 'encrypted end to end',
      this.note.textContent,
    ].filter(Boolean);
    this.element.setAttribute('aria-label', [this.name.textContent, ...states].join(', '));
  }
}
