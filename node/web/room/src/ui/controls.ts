/** The bar at the bottom of the room. */
import { h } from '@sluice/web-kit/ui/dom';
import type { LocalMedia } from '../devices';
import { icon, type IconName } from './icons';
import { MediaToggle } from './toggle';

export interface ControlActions {
  toggleStats(): boolean;
  copyLink(): Promise<boolean>;
  leave(): void;
}

/** How long "Copied" stays. */
const COPIED_MS = 2_000;

export class Controls {
  readonly element: HTMLElement;
  private readonly audio: MediaToggle;
  private readonly video: MediaToggle;
  private readonly stats: HTMLButtonElement;
  private readonly copy: HTMLButtonElement;

  constructor(
    media: LocalMedia,
    private readonly actions: ControlActions,
  ) {
    this.audio = new MediaToggle(media, 'audio');
    this.video = new MediaToggle(media, 'video');
    this.stats = round('stats', 'stats', 'Show statistics', 's', () => this.switchStats());
    this.copy = round('copy', 'link', 'Copy the link to this room', 'c', () => void this.copyLink());
    const leave = round('leave', 'leave', 'Leave the room', undefined, actions.leave);
    leave.classList.add('leave');
    this.element = h(
      'div',
      { class: 'controls', attrs: { role: 'group', 'aria-label': 'Meeting controls' } },
      this.audio.element,
      this.video.element,
      this.stats,
      this.copy,
      leave,
    );
  }

  render(): void {
    this.audio.render();
    this.video.render();
  }

  /** Handles a key of the page; keys with modifiers and those typed into a field belong to others. */
  readonly key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target instanceof HTMLInputElement) return;
    if (event.key === 'm') this.audio.toggle();
    else if (event.key === 'v') this.video.toggle();
    else if (event.key === 's') this.switchStats();
    else if (event.key === 'c') void this.copyLink();
  };

  private switchStats(): void {
    const on = this.actions.toggleStats();
    this.stats.classList.toggle('active', on);
    this.stats.setAttribute('aria-pressed', String(on));
  }

  private async copyLink(): Promise<void> {
    if (!(await this.actions.copyLink())) return;
    this.copy.replaceChildren(icon('check'));
    this.copy.setAttribute('aria-label', 'Link copied');
    setTimeout(() => {
      this.copy.replaceChildren(icon('link'));
      this.copy.setAttribute('aria-label', 'Copy the link to this room');
    }, COPIED_MS);
  }
}

function round(id: string, name: IconName, label: string, key: string | undefined, run: () => void): HTMLButtonElement {
  const button = h('button', {
    class: 'round',
    id,
    attrs: { type: 'button', 'aria-label': label, 'aria-keyshortcuts': key },
    on: { click: run },
  });
  button.title = key ? `${label} (${key.toUpperCase()})` : label;
  button.append(icon(name));
  return button;
}
