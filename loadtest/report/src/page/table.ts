/** Tables of figures. */
import { h } from '@sluice/web-kit/ui/dom';

export type Cell = string | Node;

export interface Column {
  title: string;
  /** Figures stand to the right, words to the left. */
  figures?: boolean;
  /** Takes the width that the others leave. */
  grows?: boolean;
}

/** A table with a caption; the first cell of a row is its heading. */
export function table(caption: string, columns: Column[], rows: Cell[][]): HTMLElement {
  const side = (index: number) => {
    const { figures, grows } = columns[index] ?? {};
    return figures ? { class: 'figure' } : grows ? { class: 'grows' } : {};
  };
  const head = columns.map(({ title }, index) => h('th', { ...side(index), attrs: { scope: 'col' } }, title));
  const body = rows.map((row) =>
    h(
      'tr',
      {},
      ...row.map((cell, index) => (index === 0 ? h('th', { attrs: { scope: 'row' } }, cell) : h('td', side(index), cell))),
    ),
  );
  // Wider than a phone: it scrolls by itself, also by keyboard.
  return h(
    'div',
    { class: 'scroller', attrs: { tabindex: '0', role: 'region', 'aria-label': caption } },
    h('table', {}, h('caption', {}, caption), h('thead', {}, h('tr', {}, ...head)), h('tbody', {}, ...body)),
  );
}

export function words(title: string): Column {
  return { title };
}

export function rest(title: string): Column {
  return { title, grows: true };
}

export function figures(title: string): Column {
  return { title, figures: true };
}
