/** The other people in the room, as far as this page knows them. */
import type { PeerInfo, Source } from './demo-v3';

/** One source of a peer, as this page receives it. */
export interface Incoming {
  consumerId: string;
  /** The peer has muted it. */
  paused: boolean;
  /** How many sizes of a picture there are to choose from. */
  spatialLayers: number;
  /** The one that arrives; null if the network between has no room for any, undefined while the server has said nothing. */
  spatialLayer: number | null | undefined;
  /** Whoever has no key, or another one, cannot decode it. */
  encrypted: boolean;
  /** It is encrypted, and not with this page's key. */
  unreadable: boolean;
}

export class Peer {
  displayName = '';
  region: string | undefined;
  node: string | undefined;
  /** How many pipes the peer's media crosses to get here; undefined before any arrives. */
  hops: number | undefined;
  /** Microphone and camera together, so that the browser keeps them in sync. */
  readonly stream = new MediaStream();
  readonly screen = new MediaStream();
  readonly sources: Partial<Record<Source, Incoming>> = {};

  constructor(readonly id: string) {}

  update(info: PeerInfo): void {
    this.displayName = info.displayName;
    this.region = info.region;
    this.node = info.node;
  }

  /** Whether the peer sends something and has not muted it. */
  isSending(source: Source): boolean {
    return this.sources[source]?.paused === false;
  }

  /** Where a source is played from. */
  streamOf(source: Source): MediaStream {
    return source === 'screensharing' ? this.screen : this.stream;
  }
}
