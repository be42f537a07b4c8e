/** What stands for a person without a picture: initials on a colour of their own. */
import { h } from '@sluice/web-kit/ui/dom';

/** A hue, 0 to 359, that is always the same for the same text. */
export function hueOf(text: string): number {
  let hash = 0;
  for (const character of text) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return hash % 360;
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? '')][0]?.toLocaleUpperCase() ?? '').join('') || '?';
}

export function avatar(name: string): HTMLElement {
  const element = h('div', { class: 'avatar', attrs: { 'aria-hidden': 'true' } }, h('span', {}, initials(name)));
  element.style.setProperty('--hue', String(hueOf(name)));
  return element;
}
