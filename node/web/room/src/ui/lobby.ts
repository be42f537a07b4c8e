/** The page before the room: who you are, where you go, and how you look and sound. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import type { Kind } from '../devices';
import type { Outgoing } from '../publisher';
import type { Speaker } from '../speaker';
import { DeviceFields } from './device-fields';
import { EncryptionField } from './encryption-field';
import { field } from './fields';
import { icon, logo } from './icons';
import { LevelMeter } from './level';
import { themeField } from './theme-field';
import { MediaToggle } from './toggle';

export interface LobbyChoice {
  displayName: string;
  room: string;
}

export class Lobby {
  readonly element: HTMLElement;
  private readonly name: HTMLInputElement;
  private readonly room: HTMLInputElement;
  private readonly preview = h('video', { attrs: { playsinline: '', autoplay: '', 'aria-label': 'Your camera' } });
  private readonly placeholder = h('p', { class: 'preview-text' });
  private readonly problems = h('div', { class: 'problems', attrs: { role: 'status' } });
  private readonly toggles: Record<Kind, MediaToggle>;
  private readonly meter = new LevelMeter();
  private readonly cleanup: (() => void)[] = [];

  constructor(
    private readonly outgoing: Outgoing,
    speaker: Speaker,
    initial: LobbyChoice,
    join: (choice: LobbyChoice) => void,
  ) {
    this.name = input('name', 'name', 'How the others will see you', initial.displayName);
    this.room = input('room', 'off', 'A name you share with the others', initial.room);
    const { media, encryption } = outgoing;
    const devices = new DeviceFields(media, speaker);
    const encryptionField = new EncryptionField(encryption);
    this.toggles = { audio: new MediaToggle(media, 'audio'), video: new MediaToggle(media, 'video') };
    this.preview.muted = true;
    const submit = (event: SubmitEvent) => {
      event.preventDefault();
      join({ displayName: this.name.value.trim(), room: this.room.value.trim() });
    };
    this.element = h(
      'main',
      { class: 'lobby' },
      h('header', { class: 'brand' }, logo(), h('span', { class: 'brand-name' }, 'Sluice'), themeField()),
      h(
        'div',
        { class: 'lobby-panel' },
        this.previewPanel(),
        h(
          'form',
          { class: 'lobby-form', on: { submit } },
          h('h1', {}, 'Ready to meet?'),
          h('p', { class: 'lead' }, 'You connect to the node nearest to you; the mesh brings in everybody else.'),
          field('Your name', this.name),
          field('Room', this.room),
          devices.element,
          encryptionField.element,
          this.problems,
          h('button', { class: 'button primary', id: 'join', attrs: { type: 'submit' } }, 'Join the room'),
        ),
      ),
    );
    this.cleanup.push(media.on('change', () => this.render()), () => devices.close(), encryptionField.close);
    this.render();
  }

  /** Puts the cursor where something is missing. */
  focus(): void {
    (this.name.value ? (this.room.value ? this.element.querySelector<HTMLElement>('#join') : this.room) : this.name)?.focus();
  }

  close(): void {
    for (const end of this.cleanup) end();
    this.meter.close();
    this.preview.srcObject = null;
    this.element.remove();
  }

  private previewPanel(): HTMLElement {
    return h(
      'section',
      { class: 'preview', attrs: { 'aria-label': 'Preview' } },
      this.preview,
      this.placeholder,
      h('div', { class: 'preview-controls' }, this.meter.element, this.toggles.audio.element, this.toggles.video.element),
    );
  }

  private render(): void {
    const { media } = this.outgoing;
    const track = media.tracks.video;
    const showing = track !== undefined && media.enabled.video;
    if (showing && !(this.preview.srcObject as MediaStream | null)?.getTracks().includes(track)) {
      this.preview.srcObject = new MediaStream([track]);
    }
    this.preview.hidden = !showing;
    setText(this.placeholder, showing ? '' : this.previewText());
    this.meter.listen(media.enabled.audio ? media.tracks.audio : undefined);
    for (const toggle of Object.values(this.toggles)) toggle.render();
    const problems = Object.values(media.problems);
    this.problems.replaceChildren(...problems.map((text) => h('p', {}, icon('warning'), text)));
    if (problems.length > 0) this.problems.append(h('p', { class: 'hint' }, 'You can join without it and hear and see the others.'));
  }

  private previewText(): string {
    const { problems, enabled } = this.outgoing.media;
    if (problems.video) return 'No picture';
    return enabled.video ? 'Starting the camera…' : 'Your camera is off';
  }
}

function input(id: string, autocomplete: string, placeholder: string, value: string): HTMLInputElement {
  const element = h('input', {
    id,
    attrs: { autocomplete, placeholder, required: '', maxlength: '64', spellcheck: 'false', enterkeyhint: 'go' },
  });
  element.value = value;
  return element;
}
