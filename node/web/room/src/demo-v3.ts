/** The messages of mediasoup-demo's v3 dialect that the page speaks, with this server's additions. */
import type { types } from 'mediasoup-client';

/** What a producer is of, as mediasoup-demo's clients and this server's grants name it. */
export type Source = 'audio' | 'video' | 'screensharing';

export const SOURCES: readonly Source[] = ['audio', 'video', 'screensharing'];

/**
 * What pages say of a producer. Clients of version 3 say of a screen that it is shared, and of the others nothing; `encrypted` is an
 * addition of this page: only whoever has the key can decode it.
 */
export interface AppData {
  source?: string;
  share?: boolean;
  encrypted?: boolean;
}

export function sourceOf({ kind, appData }: Pick<NewConsumer, 'kind' | 'appData'>): Source {
  if (kind === 'audio') return 'audio';
  return appData?.source === 'screensharing' || appData?.share === true ? 'screensharing' : 'video';
}

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
  /** Without it the server has no data channels. */
  sctpParameters?: types.SctpParameters;
  /** TURN, an addition: for who does not reach the candidates. */
  iceServers?: RTCIceServer[];
}

/** The server's request `newConsumer`. `hops` is an addition: how many pipes the media crosses. */
export interface NewConsumer {
  peerId: string;
  producerId: string;
  id: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  producerPaused: boolean;
  appData?: AppData & { hops?: number };
}

/** What clients say when they could have data channels: mediasoup-client 3.24 leaves it to its apps. */
export const SCTP_CAPABILITIES = { numStreams: { OS: 1024, MIS: 1024 } };

/** The server's request `newDataConsumer`. What the server itself sends is of no peer. */
export interface NewDataConsumer {
  peerId: string | null;
  dataProducerId: string;
  id: string;
  sctpStreamParameters: types.SctpStreamParameters;
  label: string;
  protocol: string;
}

/**
 * What this server has of a peer that goes on over another connection: an addition. `producers` are the peer's own, which it cannot
 * resume while they are `muted`; `consumers` are those that the page has set up, and so it is with data; `peerSecret` takes the place of
 * the former one.
 */
export interface Resumed {
  peerSecret?: string;
  peers: PeerInfo[];
  producers: OwnProducer[];
  consumers: { id: string; producerPaused: boolean }[];
  dataProducers?: { id: string }[];
  dataConsumers?: { id: string }[];
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
  /** Which layers are sent now; null while none is, for want of bandwidth. */
  consumerLayersChanged: { consumerId: string; spatialLayer?: number | null };
  dataConsumerClosed: { dataConsumerId: string };
  /** How many are in a large room, where not all are told of: an addition. */
  audience: { total: number };
  activeSpeaker: { peerId: string | null };
  /** Of an own producer: whoever runs the room muted it. An addition, as the next one. */
  producerPaused: { producerId: string };
  /** It may be heard again. */
  producerResumable: { producerId: string };
  /** Which encodings of an own producer anybody receives, in their order: an addition, for who joins with `adaptsEncodings`. */
  producerEncodingsWanted: { producerId: string; wanted: boolean[] };
  resumed: Resumed;
}
