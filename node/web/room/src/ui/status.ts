/** The connection's state in words: a chip in the room's header, and a panel over the tiles while there is none. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { MeetingState } from '../meeting';
import type { LinkState } from '../session';
import { icon } from './icons';

export interface StatusActions {
  retry(): void;
  rejoin(): void;
  leave(): void;
}

export class Status {
  readonly chip = h('span', { class: 'chip', attrs: { role: 'status' } });
  readonly panel = h('div', { class: 'panel-backdrop' });
  private countdown: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly actions: StatusActions) {
    this.panel.hidden = true;
  }

  render(state: MeetingState, link: LinkState, home: { region?: string; node?: string }): void {
    clearInterval(this.countdown);
    const place = [home.region, home.node].filter(Boolean).join(' · ');
    this.panel.hidden = state.name !== 'waiting' && state.name !== 'over';
    switch (state.name) {
      case 'connecting':
        return this.setChip('busy', 'Connecting…');
      case 'joined':
        if (link === 'unheard') return this.setChip('busy', 'Reconnecting…');
        if (link === 'unreachable') return this.setChip('bad', 'No way for media');
        if (link === 'interrupted') return this.setChip('bad', 'Media interrupted, repairing…');
        return this.setChip('good', place || 'Connected');
      case 'waiting':
        this.setChip('bad', 'Not connected');
        return this.showWaiting(state);
      case 'over':
        this.setChip('bad', 'Not connected');
        return this.showPanel(state.title, capitalised(state.reason), [
          button('Join again', 'primary', this.actions.rejoin),
          button('Back to the lobby', '', this.actions.leave),
        ]);
    }
  }

  close(): void {
    clearInterval(this.countdown);
  }

  private setChip(kind: 'good' | 'busy' | 'bad', text: string): void {
    this.chip.className = `chip ${kind}`;
    setText(this.chip, text);
  }

  private showWaiting({ retryAt, title, reason }: Extract<MeetingState, { name: 'waiting' }>): void {
    const line = h('p', { class: 'countdown', attrs: { 'aria-live': 'off' } });
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - performance.now()) / 1_000));
      setText(line, seconds > 0 ? `Trying again in ${seconds} s` : 'Trying again…');
    };
    tick();
    this.countdown = setInterval(tick, 250);
    this.showPanel(
      title,
      capitalised(reason),
      [button('Try now', 'primary', this.actions.retry), button('Leave', '', this.actions.leave)],
      line,
    );
  }

  private showPanel(title: string, reason: string, buttons: HTMLButtonElement[], line?: HTMLElement): void {
    const panel = h(
      'div',
      { class: 'panel', attrs: { role: 'alertdialog', 'aria-labelledby': 'panel-title', 'aria-describedby': 'panel-reason' } },
      icon('warning'),
      h('h2', { id: 'panel-title' }, title),
      h('p', { id: 'panel-reason' }, reason),
      line,
      h('div', { class: 'panel-buttons' }, ...buttons),
    );
    this.panel.replaceChildren(panel);
    buttons[0]?.focus();
  }
}

function button(label: string, kind: string, run: () => void): HTMLButtonElement {
  return h('button', { class: `button ${kind}`, attrs: { type: 'button' }, on: { click: run } }, label);
}

function capitalised(reason: string): string {
  const text = reason.charAt(0).toUpperCase() + reason.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
