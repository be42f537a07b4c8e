/** The chat's messages, and the field for another one. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import { LONGEST_TEXT, partsOf, problemOf, type Chat, type ChatMessage } from '../data/chat';
import { hueOf } from './avatar';
import { icon } from './icons';
import type { SideContent } from './side';

/** Messages that come at once are shown at once. */
const RENDER_AFTER_MS = 30;

/** Whoever is so near to the end reads along, in pixels. */
const NEAR_END_PX = 60;

/** So close to the longest text it is told how much is left. */
const TELL_LEFT_BELOW = 200;

const STATES = { sending: 'Sending…', sent: '', failed: 'Not sent' };

export class ChatPanel implements SideContent {
  readonly title = 'Chat';
  readonly element: HTMLElement;
  private readonly list = h('ol', { class: 'messages', attrs: { role: 'log', 'aria-label': 'Messages', tabindex: '0' } });
  private readonly empty = h('p', { class: 'empty' }, 'Everybody in the room can read what you write here. Who comes later sees what is written from then on.');
  private readonly newer = h('button', { class: 'button small newer', attrs: { type: 'button' }, on: { click: () => this.scrollToEnd() } }, icon('down'), 'New messages');
  private readonly input = h('textarea', {
    id: 'chat-text',
    attrs: { rows: '1', placeholder: 'Write to everybody', 'aria-label': 'Message to everybody', 'aria-describedby': 'chat-problem', enterkeyhint: 'send', autocomplete: 'off' },
  });
  private readonly problem = h('p', { id: 'chat-problem', class: 'chat-problem', attrs: { role: 'alert' } });
  private readonly left = h('p', { class: 'chat-left' });
  private readonly items = new Map<ChatMessage, MessageItem>();
  private readonly unsubscribe: () => void;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Chat) {
    this.newer.hidden = this.problem.hidden = this.left.hidden = true;
    const submit = (event: SubmitEvent) => {
      event.preventDefault();
      this.submit();
    };
    const send = h('button', { class: 'icon-button send', attrs: { type: 'submit', 'aria-label': 'Send' } }, icon('send'));
    this.element = h(
      'div',
      { class: 'chat' },
      h('div', { class: 'messages-box' }, this.list, this.empty, this.newer),
      h('form', { class: 'chat-form', on: { submit } }, this.problem, this.left, h('div', { class: 'chat-line' }, this.input, send)),
    );
    this.input.addEventListener('input', () => this.edited());
    this.input.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.list.addEventListener('scroll', () => {
      if (this.isAtEnd) this.newer.hidden = true;
    });
    this.unsubscribe = chat.on('change', () => this.renderSoon());
  }

  opened(): void {
    this.render();
    this.scrollToEnd();
    // With a finger that would bring up the keyboard, over what there is to read.
    if (matchMedia('(hover: hover)').matches) this.input.focus();
  }

  close(): void {
    this.unsubscribe();
    clearTimeout(this.timer);
  }

  private submit(): void {
    if (this.input.value.trim() === '') return;
    const problem = this.chat.send(this.input.value);
    this.showProblem(problem);
    if (problem !== undefined) return;
    this.input.value = '';
    this.edited();
    this.render();
    this.scrollToEnd();
  }

  private edited(): void {
    const { value } = this.input;
    if (value) this.chat.prepare();
    const left = LONGEST_TEXT - value.trim().length;
    this.left.hidden = left < 0 || left > TELL_LEFT_BELOW;
    setText(this.left, left === 1 ? '1 character left' : `${left} characters left`);
    this.showProblem(left < 0 ? problemOf(value) : undefined);
    // As high as the text, which the styles limit.
    this.input.style.height = 'auto';
    this.input.style.height = `${this.input.scrollHeight + 2}px`;
  }

  private showProblem(text: string | undefined): void {
    setText(this.problem, text ?? '');
    this.problem.hidden = text === undefined;
    this.input.setAttribute('aria-invalid', String(text !== undefined));
  }

  private renderSoon(): void {
    this.timer ??= setTimeout(() => this.render(), RENDER_AFTER_MS);
  }

  private render(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const wasAtEnd = this.isAtEnd;
    const present = new Set(this.chat.messages);
    for (const [message, { element }] of this.items) {
      if (present.has(message)) continue;
      element.remove();
      this.items.delete(message);
    }
    let more = false;
    for (const message of this.chat.messages) {
      let item = this.items.get(message);
      if (!item) {
        item = new MessageItem(message);
        this.items.set(message, item);
        this.list.append(item.element);
        more ||= message.from !== undefined;
      }
      item.update(message);
    }
    this.empty.hidden = this.items.size > 0;
    if (wasAtEnd) this.scrollToEnd();
    else if (more) this.newer.hidden = false;
  }

  private get isAtEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.list;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  private scrollToEnd(): void {
    this.list.scrollTop = this.list.scrollHeight;
    this.newer.hidden = true;
  }
}

class MessageItem {
  readonly element: HTMLLIElement;
  private readonly name = h('b', { attrs: { dir: 'auto' } });
  private readonly state = h('span', { class: 'message-state' });

  constructor({ from, at, text, encrypted }: ChatMessage) {
    const time = h('time', { attrs: { datetime: at.toISOString() } }, at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
    const lock = h('span', { class: 'lock', attrs: { role: 'img', 'aria-label': 'Encrypted end to end' } }, icon('lock'));
    lock.hidden = !encrypted;
    const body =
      text === undefined
        ? h('p', { class: 'message-text unreadable' }, 'Encrypted with a key that you do not have')
        : h('p', { class: 'message-text', attrs: { dir: 'auto' } }, ...partsOf(text).map(({ text, isLink }) => (isLink ? link(text) : text)));
    this.element = h('li', { class: from === undefined ? 'message own' : 'message' }, h('p', { class: 'message-head' }, this.name, time, lock, this.state), body);
    this.name.style.setProperty('--hue', String(hueOf(from ?? '')));
  }

  update({ from, name, state, problem }: ChatMessage): void {
    setText(this.name, from === undefined ? 'You' : name || 'Somebody');
    setText(this.state, [STATES[state], problem].filter(Boolean).join(': '));
    this.element.classList.toggle('failed', state === 'failed');
  }
}

function link(address: string): HTMLAnchorElement {
  return h('a', { attrs: { href: address, target: '_blank', rel: 'noopener noreferrer' } }, address);
}
