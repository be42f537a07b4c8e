/** The other people in the room, as far as this page knows them. */
import type { PeerInfo } from './demo-v3';
import type { Kind } from './devices';

/** One source of a peer, as this page receives it. */
export interface Source {
  consumerId: string;
  /** The peer has muted it. */
  paused: boolean;
}

export class Peer {
  displayName = '';
  region: string | undefined;
  node: string | undefined;
  /** How many pipes the peer's media crosses to get here; undefined before any arrives. */
  hops: number | undefined;
  /** Audio and video together, so that the browser keeps them in sync. */
  readonly stream = new MediaStream();
  readonly sources: Partial<Record<Kind, Source>> = {};

  constructor(readonly id: string) {}

  update(info: PeerInfo): void {
    this.displayName = info.displayName;
    this.region = info.region;
    this.node = info.node;
  }

  /** Whether the peer sends a kind and has not muted it. */
  isSending(kind: Kind): boolean {
    return this.sources[kind]?.paused === false;
  }
}
