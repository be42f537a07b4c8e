/** Who is in the room: those with raised hands first, in their order. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import { avatar } from './avatar';
import { handBadge } from './hand';
import { icon } from './icons';
import type { SideContent } from './side';

/** More nobody looks through. */
const MOST_SHOWN = 200;

const INVITATION = 'Copy an invitation';

export interface Person {
  id: string;
  name: string;
  /** The region and the node, as far as they are known. */
  place: string;
  isSelf: boolean;
}

export class PeoplePanel implements SideContent {
  readonly title = 'People';
  readonly element: HTMLElement;
  private readonly list = h('ul', { class: 'people', attrs: { 'aria-label': 'Who is here', tabindex: '0' } });
  private readonly invitation = h('span');
  private readonly more = h('p', { class: 'empty' });

  constructor(
    private readonly people: () => Person[],
    private readonly hands: () => string[],
    private readonly copyLink: () => Promise<boolean>,
  ) {
    const button = h('button', { class: 'button small', attrs: { type: 'button' }, on: { click: () => void this.invite() } }, icon('link'), this.invitation);
    this.element = h('div', { class: 'people-panel' }, this.list, this.more, button);
  }

  opened(): void {
    setText(this.invitation, INVITATION);
    this.render();
  }

  /** Is to be called when somebody came, went or changed, while the panel is seen. */
  render(): void {
    const places = new Map(this.hands().map((id, index) => [id, index + 1]));
    const placeOf = ({ id }: Person) => places.get(id) ?? Infinity;
    const order = (a: Person, b: Person) => (placeOf(a) === placeOf(b) ? compareNames(a, b) : placeOf(a) - placeOf(b));
    const people = this.people().sort(order);
    this.list.replaceChildren(...people.slice(0, MOST_SHOWN).map((person) => row(person, places.get(person.id))));
    const hidden = people.length - MOST_SHOWN;
    this.more.hidden = hidden <= 0;
    this.more.textContent = `And ${hidden} more.`;
  }

  private async invite(): Promise<void> {
    if (await this.copyLink()) setText(this.invitation, 'Copied. Send it to somebody.');
  }
}

function compareNames(a: Person, b: Person): number {
  if (a.isSelf !== b.isSelf) return a.isSelf ? -1 : 1;
  return a.name.localeCompare(b.name);
}

function row({ name, place, isSelf }: Person, hand: number | undefined): HTMLLIElement {
  return h(
    'li',
    { class: 'person' },
    avatar(name),
    h('span', { class: 'person-words' }, h('b', { attrs: { dir: 'auto' } }, name, isSelf && ' (you)'), place && h('span', { class: 'person-place' }, place)),
    hand !== undefined && handBadge(hand),
  );
}
