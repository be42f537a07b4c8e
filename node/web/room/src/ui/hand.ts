/** A raised hand, on a tile or in the list of people. */
import { h } from '@sluice/web-kit/ui/dom';
import { icon } from './icons';

/** The hand with its place among those that are up, from 1. */
export function handBadge(place: number): HTMLElement {
  return h('span', { class: 'hand', attrs: { role: 'img', 'aria-label': `Hand raised, number ${place}` } }, icon('hand'), String(place));
}
