/** What the address asks for and what the browser remembers of the last visit. */
import type { DeviceChoice } from './devices';

/** The parameters of the page's address. */
export interface PageOptions {
  room: string;
  displayName: string;
  peerId: string | undefined;
  audio: boolean;
  video: boolean;
}

/** Reads `?roomId=&displayName=&peerId=&audio=&video=`. */
export function parseOptions(search: string): PageOptions {
  const query = new URLSearchParams(search);
  return {
    room: (query.get('roomId') ?? '').trim(),
    displayName: (query.get('displayName') ?? '').trim(),
    peerId: query.get('peerId') || undefined,
    audio: query.get('audio') !== '0',
    video: query.get('video') !== '0',
  };
}

/** The WebSocket address of a room on the server at `origin`; `secret` says that the peer was there before. */
export function signallingUrl(origin: string, room: string, peerId: string, secret?: string): string {
  const url = new URL('/', origin);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('roomId', room);
  url.searchParams.set('peerId', peerId);
  if (secret) url.searchParams.set('peerSecret', secret);
  return url.href;
}

/** The address that brings somebody else into the room. */
export function inviteUrl(origin: string, room: string): string {
  const url = new URL('/', origin);
  url.searchParams.set('roomId', room);
  return url.href;
}

const WORDS = [
  'amber', 'brook', 'cedar', 'delta', 'ember', 'fjord', 'grove', 'harbor', 'inlet', 'juniper', 'kelp', 'lagoon',
  'meadow', 'north', 'otter', 'pebble', 'quartz', 'river', 'summit', 'tidal', 'upland', 'valley', 'willow', 'zephyr',
];

/** A room name that is easy to say and hard to guess by accident. */
export function suggestRoom(random: () => number = Math.random): string {
  const word = () => WORDS[Math.floor(random() * WORDS.length)];
  return `${word()}-${word()}-${Math.floor(100 + random() * 900)}`;
}

/** What is kept between visits. */
export interface Preferences {
  displayName: string;
  room: string;
  devices: DeviceChoice;
  audio: boolean;
  video: boolean;
}

const KEY = 'sluice.preferences';

export function loadPreferences(): Preferences {
  const defaults: Preferences = { displayName: '', room: '', devices: {}, audio: true, video: true };
  try {
    return { ...defaults, ...(JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Preferences>) };
  } catch {
    return defaults;
  }
}

export function savePreferences(changes: Partial<Preferences>): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...loadPreferences(), ...changes }));
  } catch {
    // Storage may be full or forbidden; the page works without a memory.
  }
}

/**
 * This tab's peer id. It survives a reload, so that the reloaded page takes the place of the former one at once instead
 * of meeting its ghost.
 */
export function tabPeerId(): string {
  const key = 'sluice.peerId';
  try {
    const id = sessionStorage.getItem(key) ?? randomId();
    sessionStorage.setItem(key, id);
    return id;
  } catch {
    return randomId();
  }
}

/** What the server gave a peer of this tab to be known by when it comes again. It survives a reload, as the peer's id does. */
export class PeerSecret {
  private static readonly KEY = 'sluice.peerSecret';
  private value: string | undefined;

  constructor(
    private readonly room: string,
    private readonly peerId: string,
  ) {
    try {
      const [ofRoom, ofPeer, value] = JSON.parse(sessionStorage.getItem(PeerSecret.KEY) ?? '[]') as (string | undefined)[];
      if (ofRoom === room && ofPeer === peerId) this.value = value;
    } catch {
      // Then it has none yet.
    }
  }

  get(): string | undefined {
    return this.value;
  }

  set(value: string): void {
    this.value = value;
    try {
      sessionStorage.setItem(PeerSecret.KEY, JSON.stringify([this.room, this.peerId, value]));
    } catch {
      // It still holds for as long as the page does.
    }
  }
}

// `crypto.randomUUID` exists in secure contexts only, and the page also works without one (nothing can be sent then).
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
