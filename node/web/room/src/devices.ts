/** Camera and microphone: opening them, switching them, and saying in words why one cannot be had. */
import { Emitter } from './emitter';

export type Kind = 'audio' | 'video';

/** Which devices to open, by `deviceId`; an absent id means the browser's default. */
export interface DeviceChoice {
  audio?: string;
  video?: string;
}

const NAMES: Record<Kind, string> = { audio: 'microphone', video: 'camera' };

/** Why `kind` cannot be opened, as a sentence for the user. */
export function problemInWords(kind: Kind, error: unknown): string {
  const name = NAMES[kind];
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The ${name} is blocked. Allow it in the browser's settings for this site.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No ${name} was found.`;
    case 'NotReadableError':
    case 'AbortError':
      return `The ${name} does not start. Another application may be using it.`;
    case 'InsecureContext':
      return `Browsers lend the ${name} only to pages served over HTTPS or from this machine.`;
    default:
      return `The ${name} cannot be used: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function constraint(kind: Kind, deviceId: string | undefined): MediaTrackConstraints {
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  return kind === 'audio'
    ? { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true }
    : { ...device, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, facingMode: 'user' };
}

async function capture(constraints: MediaStreamConstraints): Promise<MediaStream> {
  if (!navigator.mediaDevices) {
    const error = new Error('this page is not served over HTTPS');
    error.name = 'InsecureContext';
    throw error;
  }
  return navigator.mediaDevices.getUserMedia(constraints);
}

async function isGranted(kind: Kind): Promise<boolean> {
  try {
    const status = await navigator.permissions.query({ name: NAMES[kind] as PermissionName });
    return status.state === 'granted';
  } catch {
    return false;
  }
}

type Events = {
  /** The track of a kind, its on/off state or its problem changed. */
  change: Kind;
};

/** The user's own camera and microphone. Outlives sessions: a reconnection goes on with the same tracks. */
export class LocalMedia extends Emitter<Events> {
  /** What is being captured now. A camera that is switched off is released, so that its light goes out. */
  readonly tracks: Partial<Record<Kind, MediaStreamTrack>> = {};
  /** What the user wants to send. */
  readonly enabled: Record<Kind, boolean> = { audio: false, video: false };
  /** Why a kind cannot be had, in words. */
  readonly problems: Partial<Record<Kind, string>> = {};
  private choice: DeviceChoice;
  /** Counts the openings of a kind, so that one overtaken by a later wish is given up. */
  private readonly generation: Record<Kind, number> = { audio: 0, video: 0 };

  constructor(choice: DeviceChoice) {
    super();
    this.choice = { ...choice };
  }

  /** Opens several kinds with one permission prompt. Never rejects: see {@link problems}. */
  async open(kinds: Kind[]): Promise<void> {
    if (kinds.length === 0) return;
    const generation = { ...this.generation };
    for (const kind of kinds) this.enabled[kind] = true;
    try {
      const constraints: MediaStreamConstraints = {};
      for (const kind of kinds) constraints[kind] = constraint(kind, this.choice[kind]);
      const stream = await capture(constraints);
      for (const kind of kinds) {
        const track = stream.getTracks().find((track) => track.kind === kind);
        if (track) this.adopt(kind, track, generation[kind]);
      }
    } catch (error) {
      if (kinds.length === 1 || (error instanceof Error && error.name === 'InsecureContext')) {
        for (const kind of kinds) await this.recover(kind, error);
        return;
      }
      // One of them may be missing or refused: have the other. A refusal of both is not asked about a second time.
      const refused = error instanceof Error && error.name === 'NotAllowedError';
      for (const kind of kinds) {
        if (refused && !(await isGranted(kind))) this.fail(kind, error);
        else await this.open([kind]);
      }
    }
  }

  /** Switches a kind on or off. */
  async setEnabled(kind: Kind, enabled: boolean): Promise<void> {
    if (!enabled) {
      this.enabled[kind] = false;
      this.generation[kind]++;
      if (kind === 'video') this.release(kind);
      this.emit('change', kind);
    } else if (this.tracks[kind]) {
      this.enabled[kind] = true;
      this.emit('change', kind);
    } else {
      await this.open([kind]);
    }
  }

  /** Changes the device of a kind, and opens it if the kind is on. */
  async choose(kind: Kind, deviceId: string): Promise<void> {
    this.choice = { ...this.choice, [kind]: deviceId };
    if (!this.enabled[kind] && !this.tracks[kind]) return;
    this.generation[kind]++;
    this.release(kind);
    if (this.enabled[kind]) await this.open([kind]);
    else this.emit('change', kind);
  }

  /** The devices of a kind. Labels are empty until the user has allowed their use. */
  static async list(kind: Kind): Promise<MediaDeviceInfo[]> {
    if (!navigator.mediaDevices) return [];
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === `${kind}input` && device.deviceId !== '');
  }

  /** Releases everything. */
  stop(): void {
    for (const kind of ['audio', 'video'] as const) {
      this.generation[kind]++;
      this.release(kind);
    }
  }

  private adopt(kind: Kind, track: MediaStreamTrack, generation: number): void {
    if (generation !== this.generation[kind]) {
      track.stop();
      return;
    }
    this.release(kind);
    delete this.problems[kind];
    this.tracks[kind] = track;
    if (kind === 'video') track.contentHint = 'motion';
    track.addEventListener('ended', () => {
      if (this.tracks[kind] === track) void this.fallBack(kind);
    });
    this.emit('change', kind);
  }

  /** A chosen device may be gone: then the default one will do. */
  private async recover(kind: Kind, error: unknown): Promise<void> {
    if (error instanceof Error && error.name === 'OverconstrainedError' && this.choice[kind]) {
      this.forgetChoice(kind);
      await this.open([kind]);
    } else {
      this.fail(kind, error);
    }
  }

  /** The device in use was unplugged: another one may be there. */
  private async fallBack(kind: Kind): Promise<void> {
    this.release(kind);
    this.forgetChoice(kind);
    const devices = await LocalMedia.list(kind);
    if (devices.length === 0 || !this.enabled[kind]) this.fail(kind, undefined);
    else await this.open([kind]);
  }

  private forgetChoice(kind: Kind): void {
    const { [kind]: _gone, ...rest } = this.choice;
    this.choice = rest;
  }

  private fail(kind: Kind, error: unknown): void {
    this.release(kind);
    this.enabled[kind] = false;
    this.problems[kind] = error === undefined ? `The ${NAMES[kind]} was disconnected.` : problemInWords(kind, error);
    this.emit('change', kind);
  }

  private release(kind: Kind): void {
    this.tracks[kind]?.stop();
    delete this.tracks[kind];
  }
}
