/** The choice of camera, microphone and speaker, alike in lobby and room. */
import { h } from '@sluice/web-kit/ui/dom';
import { LocalMedia, type Kind } from '../devices';
import { loadPreferences, savePreferences } from '../options';
import { Speaker } from '../speaker';
import { field } from './fields';

const NAMES = { video: 'Camera', audio: 'Microphone', speaker: 'Speaker' } as const;

type Device = keyof typeof NAMES;

export class DeviceFields {
  readonly element = h('div', { class: 'devices' });
  private readonly selects: Partial<Record<Device, HTMLSelectElement>> = {};
  private readonly cleanup: (() => void)[] = [];

  constructor(
    private readonly media: LocalMedia,
    private readonly speaker: Speaker,
  ) {
    this.add('video', (deviceId) => this.choose('video', deviceId));
    this.add('audio', (deviceId) => this.choose('audio', deviceId));
    if (Speaker.canBeChosen) {
      this.add('speaker', (deviceId) => {
        savePreferences({ speaker: deviceId });
        speaker.choose(deviceId);
      });
    }
    const devices = navigator.mediaDevices as MediaDevices | undefined;
    const changed = () => this.render();
    devices?.addEventListener('devicechange', changed);
    this.cleanup.push(() => devices?.removeEventListener('devicechange', changed), media.on('change', changed));
    this.render();
  }

  close(): void {
    for (const end of this.cleanup) end();
  }

  private add(device: Device, chosen: (deviceId: string) => void): void {
    const select = h('select', { id: `${device}-device` });
    select.addEventListener('change', () => chosen(select.value));
    this.selects[device] = select;
    this.element.append(field(NAMES[device], select));
  }

  private choose(kind: Kind, deviceId: string): void {
    savePreferences({ devices: { ...loadPreferences().devices, [kind]: deviceId } });
    void this.media.choose(kind, deviceId);
  }

  private render(): void {
    for (const kind of ['audio', 'video'] as const) {
      const current = this.media.tracks[kind]?.getSettings().deviceId ?? this.selects[kind]?.value;
      void LocalMedia.list(kind).then((devices) => this.fill(kind, devices, current));
    }
    void Speaker.list().then((devices) => this.fill('speaker', devices, this.speaker.chosen || 'default'));
  }

  private fill(device: Device, devices: MediaDeviceInfo[], current: string | undefined): void {
    const options = devices.map(({ deviceId, label }, index) => {
      const option = h('option', { attrs: { value: deviceId } }, label || `${NAMES[device]} ${index + 1}`);
      option.selected = deviceId === current;
      return option;
    });
    const select = this.selects[device];
    if (!select) return;
    select.disabled = options.length === 0;
    select.replaceChildren(...(options.length > 0 ? options : [h('option', { attrs: { value: '' } }, 'Not available')]));
  }
}
