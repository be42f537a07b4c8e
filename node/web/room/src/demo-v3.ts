/** The messages of mediasoup-demo's v3 dialect that the page speaks, with this server's additions. */
import type { types } from 'mediasoup-client';

/** A peer as `join` and `newPeer` tell of it. `region` and `node` are additions of this server. */
export interface PeerInfo {
  id: string;
  displayName: string;
  region?: string;
  node?: string;
}

/**
 * Answer to `join`. `region` and `node`, where they are given, say where this page itself is connected; `peerSecret` is what
 * takes the peer's place again.
 */
export interface JoinResponse {
  peers: PeerInfo[];
  peerSecret?: string;
  region?: string;
  node?: string;
}

/** Answer to `createWebRtcTransport`. */
export interface TransportInfo {
  id: string;
  iceParameters: types.IceParameters;
  iceCandidates: types.IceCandidate[];
  dtlsParameters: types.DtlsParameters;
}

/** The server's request `newConsumer`. `hops` is an addition: how many pipes the media crosses. */
export interface NewConsumer {
  peerId: string;
  producerId: string;
  id: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  producerPaused: boolean;
  appData?: { hops?: number };
}

/**
 * What this server has of a peer that goes on over another connection: an addition. `producers` are the peer's own, which it cannot
 * resume while they are `muted`; `consumers` are those that the page has set up; `peerSecret` takes the place of the former one.
 */
export interface Resumed {
  peerSecret?: string;
  peers: PeerInfo[];
  producers: OwnProducer[];
  consumers: { id: string; producerPaused: boolean }[];
}

export interface OwnProducer {
  id: string;
  paused: boolean;
  muted: boolean;
}

/** The notifications that the page acts on, by method. */
export interface Notifications {
  newPeer: PeerInfo;
  peerClosed: { peerId: string };
  peerDisplayNameChanged: { peerId: string; displayName: string };
  consumerClosed: { consumerId: string };
  consumerPaused: { consumerId: string };
  consumerResumed: { consumerId: string };
  activeSpeaker: { peerId: string | null };
  /** Of an own producer: whoever runs the room muted it. An addition, as the next one. */
  producerPaused: { producerId: string };
  /** It may be heard again. */
  producerResumable: { producerId: string };
  resumed: Resumed;
}
