/** Dialogs over the room: the browser keeps the focus in them, closes them at Escape, and gives the focus back. */
import { h } from '@sluice/web-kit/ui/dom';
import { icon } from './icons';

/** Shows a dialog, in place of another one, until it is closed. `closed` is called then. */
export function showDialog(title: string, content: Node[], closed: () => void = () => {}): HTMLDialogElement {
  document.querySelector('dialog')?.close();
  const close = () => dialog.close();
  const dialog = h(
    'dialog',
    { class: 'dialog', attrs: { 'aria-labelledby': 'dialog-title' } },
    h(
      'header',
      {},
      h('h2', { id: 'dialog-title' }, title),
      h('button', { class: 'icon-button', attrs: { type: 'button', 'aria-label': 'Close' }, on: { click: close } }, icon('close')),
    ),
    h('div', { class: 'dialog-content' }, ...content),
  );
  // The content covers the dialog but for its backdrop.
  dialog.addEventListener('click', (event) => event.target === dialog && close());
  dialog.addEventListener('close', () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
