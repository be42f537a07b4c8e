/** Labelled controls of forms. */
import { h } from '@sluice/web-kit/ui/dom';

export function field(label: string, control: HTMLInputElement | HTMLSelectElement): HTMLElement {
  return h('div', { class: 'field' }, h('label', { attrs: { for: control.id } }, label), control);
}

/** A choice among values, each with its label. */
export function select<Value extends string>(
  id: string,
  options: Record<Value, string>,
  value: Value,
  changed: (value: Value) => void,
): HTMLSelectElement {
  const element = h('select', { id });
  for (const [option, label] of Object.entries<string>(options)) element.append(h('option', { attrs: { value: option } }, label));
  element.value = value;
  element.addEventListener('change', () => changed(element.value as Value));
  return element;
}

/** A switch with a word on what it does. */
export function toggle(id: string, label: string, hint: string, changed: (on: boolean) => void) {
  const words = { 'aria-labelledby': `${id}-label`, 'aria-describedby': `${id}-hint` };
  const input = h('input', { id, attrs: { type: 'checkbox', role: 'switch', ...words } });
  input.addEventListener('change', () => changed(input.checked));
  const text = h('span', {}, h('b', { id: `${id}-label` }, label), h('span', { id: `${id}-hint`, class: 'hint' }, hint));
  return { element: h('label', { class: 'switch', attrs: { for: id } }, text, input), input };
}
