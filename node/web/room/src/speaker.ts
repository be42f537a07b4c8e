/** Where sound is played. */
import { Emitter } from './emitter';

type Events = {
  /** Another device plays. */
  change: undefined;
};

export class Speaker extends Emitter<Events> {
  /** Firefox and Chromium let pages choose; elsewhere the system does. */
  static readonly canBeChosen = typeof HTMLMediaElement !== 'undefined' && 'setSinkId' in HTMLMediaElement.prototype;

  /** `deviceId` may be empty: the browser's default. */
  constructor(private deviceId: string) {
    super();
  }

  get chosen(): string {
    return this.deviceId;
  }

  choose(deviceId: string): void {
    this.deviceId = deviceId;
    this.emit('change', undefined);
  }

  /** Lets an element play there. A device that has gone is not waited for. */
  async playTo(element: HTMLMediaElement): Promise<void> {
    if (!Speaker.canBeChosen || element.sinkId === this.deviceId) return;
    await element.setSinkId(this.deviceId).catch(() => element.setSinkId('').catch(() => {}));
  }

  /** The devices that there are. Labels are empty until the user has allowed the use of a microphone. */
  static async list(): Promise<MediaDeviceInfo[]> {
    if (!Speaker.canBeChosen || !navigator.mediaDevices) return [];
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === 'audiooutput' && device.deviceId !== '');
  }
}
