/** Short messages at the edge of the page: what failed, and what the user can do about it. */
import { h } from '@sluice/web-kit/ui/dom';
import { icon } from './icons';

/** How long a message stays when it asks for nothing. Long enough to be read twice. */
const STAY_MS = 9_000;

export interface Notice {
  text: string;
  /** Whether it stays until it is dismissed. */
  stays?: boolean;
  /** A button; a notice with one stays until it is used or dismissed. */
  action?: { label: string; run(): void };
}

export class Notices {
  readonly element = h('div', { class: 'notices', attrs: { role: 'status', 'aria-live': 'polite' } });
  private readonly shown = new Map<string, HTMLElement>();

  /** Shows a notice; one with the same text is shown only once at a time. Returns what dismisses it. */
  show({ text, stays, action }: Notice): () => void {
    this.shown.get(text)?.remove();
    const dismiss = () => {
      element.remove();
      if (this.shown.get(text) === element) this.shown.delete(text);
    };
    const run = () => {
      dismiss();
      action?.run();
    };
    const element = h(
      'div',
      { class: 'notice' },
      icon('warning'),
      h('p', {}, text),
      action && h('button', { class: 'button small', attrs: { type: 'button' }, on: { click: run } }, action.label),
      h('button', { class: 'icon-button', attrs: { type: 'button', 'aria-label': 'Dismiss' }, on: { click: dismiss } }, icon('close')),
    );
    this.shown.set(text, element);
    this.element.append(element);
    if (!action && !stays) setTimeout(dismiss, STAY_MS);
    return dismiss;
  }
}
