/** The bar at the bottom of the room. */
import { h } from '@sluice/web-kit/ui/dom';
import type { LayoutMode } from '../layout';
import type { Outgoing } from '../publisher';
import { icon, type IconName } from './icons';
import type { Shortcut } from './shortcuts';
import { MediaToggle } from './toggle';

export interface ControlActions {
  toggleShare(): void;
  toggleLayout(): void;
  toggleStats(): void;
  copyLink(): Promise<boolean>;
  showSettings(): void;
  leave(): void;
}

/** How long "Copied" stays. */
const COPIED_MS = 2_000;

const COPY_LABEL = 'Copy the link to this room';

export class Controls {
  readonly element: HTMLElement;
  private readonly audio: MediaToggle;
  private readonly video: MediaToggle;
  private readonly share: HTMLButtonElement;
  private readonly layout: HTMLButtonElement;
  private readonly stats: HTMLButtonElement;
  private readonly copy: HTMLButtonElement;

  constructor(
    private readonly outgoing: Outgoing,
    private readonly actions: ControlActions,
  ) {
    this.audio = new MediaToggle(outgoing.media, 'audio');
    this.video = new MediaToggle(outgoing.media, 'video');
    this.share = round('share', 'screen', 'Share your screen', 's', actions.toggleShare);
    this.layout = round('layout-mode', 'speaker-large', 'Show the speaker large', 'l', actions.toggleLayout);
    this.stats = round('stats', 'stats', 'Show statistics', 'i', actions.toggleStats);
    this.copy = round('copy', 'link', COPY_LABEL, 'c', () => void this.copyLink());
    const settings = round('settings', 'settings', 'Settings', ',', actions.showSettings);
    const leave = round('leave', 'leave', 'Leave the room', undefined, actions.leave);
    leave.classList.add('leave');
    this.share.hidden = !outgoing.screen.canBeShared;
    this.element = h(
      'div',
      { class: 'controls', attrs: { role: 'group', 'aria-label': 'Meeting controls' } },
      this.audio.element,
      this.video.element,
      this.share,
      this.layout,
      this.stats,
      this.copy,
      settings,
      leave,
    );
  }

  /** The keys that do what the buttons do. */
  get shortcuts(): Shortcut[] {
    const { actions, outgoing } = this;
    return [
      { key: 'm', does: 'Microphone on or off', run: () => this.audio.toggle() },
      { key: 'v', does: 'Camera on or off', run: () => this.video.toggle() },
      ...(outgoing.screen.canBeShared ? [{ key: 's', does: 'Share your screen, or stop', run: actions.toggleShare }] : []),
      { key: 'l', does: 'The speaker large, or everybody alike', run: actions.toggleLayout },
      { key: 'i', does: 'Statistics', run: actions.toggleStats },
      { key: 'c', does: COPY_LABEL, run: () => void this.copyLink() },
      { key: ',', does: 'Settings', run: actions.showSettings },
    ];
  }

  render(layout: LayoutMode, statistics: boolean): void {
    this.audio.render();
    this.video.render();
    press(this.share, this.outgoing.screen.track !== undefined);
    press(this.layout, layout === 'speaker');
    press(this.stats, statistics);
  }

  private async copyLink(): Promise<void> {
    if (!(await this.actions.copyLink())) return;
    this.copy.replaceChildren(icon('check'));
    this.copy.setAttribute('aria-label', 'Link copied');
    setTimeout(() => {
      this.copy.replaceChildren(icon('link'));
      this.copy.setAttribute('aria-label', COPY_LABEL);
    }, COPIED_MS);
  }
}

function press(button: HTMLButtonElement, on: boolean): void {
  button.classList.toggle('active', on);
  button.setAttribute('aria-pressed', String(on));
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
