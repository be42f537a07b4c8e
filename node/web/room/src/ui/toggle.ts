/** The round switches for microphone and camera, alike in lobby and room. */
import { h } from '@sluice/web-kit/ui/dom';
import type { Kind, LocalMedia } from '../devices';
import { icon } from './icons';

const WORDS = {
  audio: { on: 'Mute microphone', off: 'Unmute microphone', key: 'm' },
  video: { on: 'Turn camera off', off: 'Turn camera on', key: 'v' },
} as const;

export class MediaToggle {
  readonly element: HTMLButtonElement;

  constructor(
    private readonly media: LocalMedia,
    private readonly kind: Kind,
  ) {
    this.element = h('button', {
      class: 'round',
      id: `toggle-${kind}`,
      attrs: { type: 'button', 'aria-keyshortcuts': WORDS[kind].key },
      on: { click: () => this.toggle() },
    });
    this.render();
  }

  toggle(): void {
    void this.media.setEnabled(this.kind, !this.media.enabled[this.kind]);
  }

  render(): void {
    const on = this.media.enabled[this.kind];
    const broken = this.media.problems[this.kind] !== undefined;
    const name = this.kind === 'audio' ? 'microphone' : 'camera';
    const label = WORDS[this.kind][on ? 'on' : 'off'];
    this.element.replaceChildren(icon(on ? name : `${name}-off`));
    this.element.classList.toggle('off', !on);
    this.element.classList.toggle('broken', broken);
    this.element.setAttribute('aria-label', label);
    this.element.setAttribute('aria-pressed', String(!on));
    this.element.title = `${label} (${WORDS[this.kind].key.toUpperCase()})`;
  }
}
