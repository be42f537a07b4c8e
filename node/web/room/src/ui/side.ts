/** What is beside the stage, or over it where there is no room: one panel at a time. */
import { h } from '@sluice/web-kit/ui/dom';
import { icon } from './icons';

/** Something that can be shown there. */
export interface SideContent {
  title: string;
  element: HTMLElement;
  /** It is seen from now on. */
  opened(): void;
}

export class Side<Name extends string> {
  readonly element: HTMLElement;
  private readonly title = h('h2', { id: 'side-title' });
  private readonly content = h('div', { class: 'side-content' });
  private name: Name | undefined;
  /** What had the focus before. */
  private before: Element | null = null;

  constructor(
    private readonly contents: Record<Name, SideContent>,
    private readonly changed: () => void,
  ) {
    this.element = h(
      'aside',
      { class: 'side', id: 'side', attrs: { 'aria-labelledby': 'side-title', tabindex: '-1' }, on: { keydown: (event) => this.key(event) } },
      h(
        'header',
        {},
        this.title,
        h('button', { class: 'icon-button', attrs: { type: 'button', 'aria-label': 'Close' }, on: { click: () => this.close() } }, icon('close')),
      ),
      this.content,
    );
    this.element.hidden = true;
  }

  /** What is shown. */
  get shown(): Name | undefined {
    return this.name;
  }

  toggle(name: Name): void {
    if (name === this.name) return this.close();
    if (this.name === undefined) this.before = document.activeElement;
    const content = this.contents[name];
    this.name = name;
    this.title.textContent = content.title;
    this.content.replaceChildren(content.element);
    this.element.hidden = false;
    this.element.focus();
    content.opened();
    this.changed();
  }

  close(): void {
    if (this.name === undefined) return;
    const { activeElement } = document;
    if (activeElement instanceof HTMLElement && this.element.contains(activeElement)) {
      activeElement.blur();
      if (this.before instanceof HTMLElement) this.before.focus();
    }
    this.name = undefined;
    this.element.hidden = true;
    this.changed();
  }

  private key(event: KeyboardEvent): void {
    if (event.key !== 'Escape' || event.isComposing) return;
    event.stopPropagation();
    this.close();
  }
}
