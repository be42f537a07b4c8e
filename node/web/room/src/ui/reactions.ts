/** The choice of a reaction, over its button. */
import { h } from '@sluice/web-kit/ui/dom';
import { REACTIONS, type Reaction } from '../data/signals';

/** Emoji have other names for those who hear them. */
const NAMES: Record<Reaction, string> = { '👍': 'Thumbs up', '👏': 'Applause', '❤️': 'Heart', '😂': 'Laughter', '😮': 'Surprise', '🎉': 'Celebration' };

export class ReactionChoice {
  /** The button with the choice over it. */
  readonly element: HTMLElement;
  private readonly choice: HTMLElement;

  constructor(
    private readonly button: HTMLButtonElement,
    private readonly actions: { prepare(): void; react(reaction: Reaction): void },
  ) {
    const choices = REACTIONS.map((reaction) =>
      h('button', { class: 'reaction-choice', attrs: { type: 'button', 'aria-label': NAMES[reaction] }, on: { click: () => this.choose(reaction) } }, reaction),
    );
    this.choice = h('div', { class: 'reactions', attrs: { role: 'group', 'aria-label': 'Reactions' } }, ...choices);
    this.choice.hidden = true;
    this.element = h(
      'span',
      {
        class: 'reactions-anchor',
        on: {
          keydown: (event) => this.key(event),
          focusout: ({ relatedTarget }) => {
            // Browsers differ in whether a click focuses a button: only a focus elsewhere counts.
            if (relatedTarget instanceof Node && !this.element.contains(relatedTarget)) this.show(false);
          },
        },
      },
      button,
      this.choice,
    );
    addEventListener('pointerdown', this.pointed);
    this.show(false);
  }

  close(): void {
    removeEventListener('pointerdown', this.pointed);
  }

  toggle(): void {
    this.show(this.choice.hidden === true);
  }

  private show(shown: boolean): void {
    this.choice.hidden = !shown;
    this.button.setAttribute('aria-expanded', String(shown));
    if (!shown) return;
    this.actions.prepare();
    this.choice.querySelector('button')?.focus();
  }

  private choose(reaction: Reaction): void {
    this.actions.react(reaction);
    this.show(false);
    this.button.focus();
  }

  private readonly pointed = ({ target }: PointerEvent): void => {
    if (target instanceof Node && !this.element.contains(target)) this.show(false);
  };

  private key(event: KeyboardEvent): void {
    const choices = [...this.choice.querySelectorAll('button')];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = choices.findIndex((choice) => choice === document.activeElement);
    if (event.key === 'Escape' && !this.choice.hidden) {
      this.show(false);
      this.button.focus();
    } else if (step && at >= 0) {
      choices[(at + step + choices.length) % choices.length]?.focus();
    }
  }
}

/** What a reaction is called. */
export function nameOf(reaction: Reaction): string {
  return NAMES[reaction];
}
