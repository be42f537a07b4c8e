/** The room's keys, and the dialog that tells of them. */
import { h } from '@sluice/web-kit/ui/dom';
import { showDialog } from './dialog';

export interface Shortcut {
  key: string;
  does: string;
  /** Without it always. */
  available?(): boolean;
  run(): void;
}

export class Shortcuts {
  private readonly all: Shortcut[];

  constructor(shortcuts: Shortcut[]) {
    this.all = [...shortcuts, { key: '?', does: 'Show this help', run: () => this.help() }];
  }

  /** Handles a key of the page; keys with modifiers and those of fields and dialogs belong to others. */
  readonly handle = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target instanceof Element && event.target.closest('input, textarea, select, dialog')) return;
    const shortcut = this.available.find(({ key }) => key === event.key.toLowerCase());
    if (!shortcut) return;
    // What it opens may take text.
    event.preventDefault();
    shortcut.run();
  };

  private get available(): Shortcut[] {
    return this.all.filter(({ available }) => available?.() ?? true);
  }

  help(): void {
    const rows = this.available.flatMap(({ key, does }) => [h('dt', {}, h('kbd', {}, key.toUpperCase())), h('dd', {}, does)]);
    showDialog('Keyboard', [h('dl', { class: 'shortcuts' }, ...rows)]);
  }
}
