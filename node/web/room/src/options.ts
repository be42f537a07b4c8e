/** What the address asks for and what the browser remembers of the last visit. */
import type { DeviceChoice } from './devices';
import type { LayoutMode } from './layout';
import type { Theme } from './theme';

/** The parameters of the page's address. */
export interface PageOptions {
  room: string;
  displayName: string;
  peerId: string | undefined;
  /** The tenant whose rooms are meant; without it the token's, or the default one. */
  namespace: string | undefined;
  /** Lets the person in. */
  token: string | undefined;
  audio: boolean;
  video: boolean;
  /** Media go by TCP only. */
  forceTcp: boolean;
  /** `relay`: media go through TURN only. */
  iceTransportPolicy: 'relay' | undefined;
}

/** Reads `?roomId=&displayName=&peerId=&namespace=&token=&audio=&video=&forceTcp=&iceTransportPolicy=`. What a token says of its holder counts as it does for the server. */
export function parseOptions(search: string): PageOptions {
  const query = new URLSearchParams(search);
  const token = query.get('token') || undefined;
  const claims = claimsOf(token);
  return {
    room: (query.get('roomId') ?? '').trim(),
    displayName: claims.name ?? (query.get('displayName') ?? '').trim(),
    peerId: query.get('peerId') || claims.sub,
    namespace: query.get('namespace') || undefined,
    token,
    audio: query.get('audio') !== '0',
    video: query.get('video') !== '0',
    forceTcp: query.get('forceTcp') === 'true',
    iceTransportPolicy: query.get('iceTransportPolicy') === 'relay' ? 'relay' : undefined,
  };
}

/** What a token says of its holder: the peer's id and display name. One that cannot be read says nothing; the server judges it. */
function claimsOf(token: string | undefined): { sub: string | undefined; name: string | undefined } {
  const text = (value: unknown) => (typeof value === 'string' && value ? value : undefined);
  try {
    // RFC 7519 section 3: the claims are the second part, in base64url.
    const base64 = (token?.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const { sub, name } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    return { sub: text(sub), name: text(name) };
  } catch {
    return { sub: undefined, name: undefined };
  }
}

/** Who enters which room, as the query of the WebSocket's address says it. */
export interface Opening {
  roomId: string;
  peerId: string;
  namespace?: string | undefined;
  token?: string | undefined;
  /** Says that the peer was there before. */
  peerSecret?: string | undefined;
  /** The peer's connection broke, and it goes on with what it has. */
  resume?: boolean;
}

/** The WebSocket address on the server at `origin`. */
export function signallingUrl(origin: string, opening: Opening): string {
  const url = new URL('/', origin);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  for (const [name, value] of Object.entries(opening)) if (value) url.searchParams.set(name, String(value));
  return url.href;
}

/** The address that brings somebody else into the room. */
export function inviteUrl(origin: string, room: string, passphrase: string | undefined): string {
  const url = new URL('/', origin);
  url.searchParams.set('roomId', room);
  url.hash = fragmentOf(passphrase);
  return url.href;
}

/** The passphrase of end-to-end encryption. It is in the address's fragment, which browsers keep to themselves. */
export function passphraseOf(fragment: string): string | undefined {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('key') || undefined;
}

export function fragmentOf(passphrase: string | undefined): string {
  return passphrase === undefined ? '' : `#${new URLSearchParams({ key: passphrase })}`;
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
  /** The device that plays sound; empty for the browser's default. */
  speaker: string;
  audio: boolean;
  video: boolean;
  layout: LayoutMode;
  theme: Theme;
}

const KEY = 'sluice.preferences';

export function loadPreferences(): Preferences {
  const defaults: Preferences = {
    displayName: '', room: '', devices: {}, speaker: '', audio: true, video: true, layout: 'grid', theme: 'auto',
  };
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
