/** The page before the room: who you are, where you go, and how you look and sound. */
import { h, setText } from '@sluice/web-kit/ui/dom';
import { LocalMedia, type Kind } from '../devices';
import { icon, logo } from './icons';
import { LevelMeter } from './level';
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
  private readonly selects: Record<Kind, HTMLSelectElement>;
  private readonly toggles: Record<Kind, MediaToggle>;
  private readonly meter = new LevelMeter();
  private readonly cleanup: (() => void)[] = [];

  constructor(
    private readonly media: LocalMedia,
    initial: LobbyChoice,
    chosen: (kind: Kind, deviceId: string) => void,
    join: (choice: LobbyChoice) => void,
  ) {
    this.name = input('name', 'name', 'How the others will see you', initial.displayName);
    this.room = input('room', 'off', 'A name you share with the others', initial.room);
    this.selects = { audio: this.select('audio', chosen), video: this.select('video', chosen) };
    this.toggles = { audio: new MediaToggle(media, 'audio'), video: new MediaToggle(media, 'video') };
    this.preview.muted = true;
    const submit = (event: SubmitEvent) => {
      event.preventDefault();
      join({ displayName: this.name.value.trim(), room: this.room.value.trim() });
    };
    this.element = h(
      'main',
      { class: 'lobby' },
      h('header', { class: 'brand' }, logo(), h('span', { class: 'brand-name' }, 'Sluice')),
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
          h('div', { class: 'devices' }, field('Camera', this.selects.video), field('Microphone', this.selects.audio)),
          this.problems,
          h('button', { class: 'button primary', id: 'join', attrs: { type: 'submit' } }, 'Join the room'),
        ),
      ),
    );
    this.cleanup.push(media.on('change', () => this.render()));
    this.watchDevices();
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

  private select(kind: Kind, chosen: (kind: Kind, deviceId: string) => void): HTMLSelectElement {
    const select = h('select', { id: `${kind}-device` });
    select.addEventListener('change', () => {
      chosen(kind, select.value);
      void this.media.choose(kind, select.value);
    });
    return select;
  }

  private watchDevices(): void {
    const devices = navigator.mediaDevices as MediaDevices | undefined;
    const changed = () => this.render();
    devices?.addEventListener('devicechange', changed);
    this.cleanup.push(() => devices?.removeEventListener('devicechange', changed));
  }

  private render(): void {
    const track = this.media.tracks.video;
    const showing = track !== undefined && this.media.enabled.video;
    if (showing && !(this.preview.srcObject as MediaStream | null)?.getTracks().includes(track)) {
      this.preview.srcObject = new MediaStream([track]);
    }
    this.preview.hidden = !showing;
    setText(this.placeholder, showing ? '' : this.previewText());
    this.meter.listen(this.media.enabled.audio ? this.media.tracks.audio : undefined);
    for (const kind of ['audio', 'video'] as const) {
      this.toggles[kind].render();
      void this.fill(kind);
    }
    const problems = Object.values(this.media.problems);
    this.problems.replaceChildren(...problems.map((text) => h('p', {}, icon('warning'), text)));
    if (problems.length > 0) this.problems.append(h('p', { class: 'hint' }, 'You can join without it and hear and see the others.'));
  }

  private previewText(): string {
    if (this.media.problems.video) return 'No picture';
    return this.media.enabled.video ? 'Starting the camera…' : 'Your camera is off';
  }

  private async fill(kind: Kind): Promise<void> {
    const devices = await LocalMedia.list(kind);
    const select = this.selects[kind];
    const current = this.media.tracks[kind]?.getSettings().deviceId ?? select.value;
    const options = devices.map(({ deviceId, label }, index) => {
      const option = h('option', { attrs: { value: deviceId } }, label || `${kind === 'audio' ? 'Microphone' : 'Camera'} ${index + 1}`);
      option.selected = deviceId === current;
      return option;
    });
    select.disabled = options.length === 0;
    select.replaceChildren(...(options.length > 0 ? options : [h('option', { attrs: { value: '' } }, 'Not available')]));
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

function field(label: string, control: HTMLInputElement | HTMLSelectElement): HTMLElement {
  return h('div', { class: 'field' }, h('label', { attrs: { for: control.id } }, label), control);
}
