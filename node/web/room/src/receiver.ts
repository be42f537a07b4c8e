/** What comes of the others: who is in the room, and what this page receives of them. */
import { parseScalabilityMode, type types } from 'mediasoup-client';
import { sourceOf, type NewConsumer, type Notifications, type PeerInfo, type Resumed, type Source } from './demo-v3';
import { Encryption } from './encryption';
import { Peer, type Incoming } from './peers';
import { delay } from './promises';

interface Received {
  consumer: types.Consumer;
  peer: Peer;
  source: Source;
}

/** What is known of a consumer, which the news may tell before it is set up. */
type State = Pick<Incoming, 'paused' | 'spatialLayer'>;

export class Receiver {
  readonly peers = new Map<string, Peer>();
  private readonly consumers = new Map<string, Received>();
  /** Those that are on their way to be among the consumers. */
  private readonly setups = new Map<string, Promise<void>>();
  private readonly states = new Map<string, State>();
  /** Peers and consumers, because the news that one has ended may overtake its setting up. */
  private readonly gone = new Set<string>();
  private gathering: Promise<void> | undefined;

  /** `changed` is called when a peer comes, goes or changes. */
  constructor(
    private readonly transport: Promise<Pick<types.Transport, 'consume'>>,
    private readonly encryption: Pick<Encryption, 'open'>,
    private readonly changed: () => void,
  ) {}

  /** Receives what the server offers. Resolves when it is set up, also if it is offered again meanwhile. */
  consume(request: NewConsumer): Promise<void> {
    const { id } = request;
    this.gone.delete(id);
    this.states.set(id, { spatialLayer: undefined, ...this.states.get(id), paused: request.producerPaused });
    const setup = this.setups.get(id) ?? this.setUp(request).finally(() => this.setups.delete(id));
    this.setups.set(id, setup);
    return setup;
  }

  /** Acts on what the server says of the others. */
  notified(method: keyof Notifications, data: never): void {
    switch (method) {
      case 'newPeer':
        return this.newPeer(data);
      case 'peerClosed':
        return this.closePeer((data as Notifications['peerClosed']).peerId);
      case 'peerDisplayNameChanged':
        return this.rename(data);
      case 'consumerClosed':
        return this.closeConsumer((data as Notifications['consumerClosed']).consumerId);
      case 'consumerPaused':
        return this.setState((data as Notifications['consumerPaused']).consumerId, { paused: true });
      case 'consumerResumed':
        return this.setState((data as Notifications['consumerResumed']).consumerId, { paused: false });
      case 'consumerLayersChanged': {
        const { consumerId, spatialLayer = null } = data as Notifications['consumerLayersChanged'];
        return this.setState(consumerId, { spatialLayer });
      }
    }
  }

  /** These were in the room when this page joined, except for those who have gone meanwhile. */
  found(peers: PeerInfo[]): void {
    for (const info of peers) {
      if (!this.gone.has(info.id)) this.peer(info.id).update(info);
    }
    this.changed();
  }

  /** Catches up with what happened while nothing was heard. What the page has not set up is offered again after this. */
  reconcile({ peers, consumers }: Pick<Resumed, 'peers' | 'consumers'>): void {
    const present = new Set(peers.map(({ id }) => id));
    for (const id of [...this.peers.keys()]) if (!present.has(id)) this.closePeer(id);
    for (const info of peers) this.newPeer(info);
    const paused = new Map(consumers.map(({ id, producerPaused }) => [id, producerPaused]));
    for (const id of [...this.consumers.keys(), ...this.setups.keys()]) if (!paused.has(id)) this.closeConsumer(id);
    for (const [id, isPaused] of paused) this.setState(id, { paused: isPaused });
  }

  /** Whether a consumer's media are encrypted with this page's key. */
  setReadable(id: string, readable: boolean): void {
    const incoming = this.incoming(id);
    if (!incoming) return;
    incoming.unreadable = !readable;
    this.changed();
  }

  /** Consumers that cannot be read. */
  get unreadable(): string[] {
    return [...this.consumers.keys()].filter((id) => this.incoming(id)?.unreadable);
  }

  private async setUp({ id, peerId, producerId, kind, rtpParameters, appData }: NewConsumer): Promise<void> {
    const transport = await this.transport;
    await this.gathered();
    const source = sourceOf({ kind, ...(appData && { appData }) });
    const encrypted = appData?.encrypted === true;
    if (encrypted && !Encryption.supported) throw new Error('it is encrypted, and this browser cannot decrypt it');
    const consumer = await transport.consume({
      id,
      producerId,
      kind,
      rtpParameters,
      // The browser keeps a stream's tracks in sync, and a screen belongs to no voice. Session descriptions take no blanks.
      streamId: encodeURIComponent(source === 'screensharing' ? `${peerId}/${source}` : peerId),
      ...(encrypted && { onRtpReceiver: (receiver: RTCRtpReceiver) => this.encryption.open(receiver, kind, id) }),
    });
    if (this.gone.has(peerId) || this.gone.has(id)) {
      consumer.close();
      return;
    }
    const peer = this.peer(peerId);
    this.consumers.set(id, { consumer, peer, source });
    peer.hops = appData?.hops ?? peer.hops;
    const { spatialLayers } = parseScalabilityMode(rtpParameters.encodings?.[0]?.scalabilityMode);
    const state = this.states.get(id) ?? { paused: false, spatialLayer: undefined };
    peer.sources[source] = { consumerId: id, spatialLayers, encrypted, unreadable: false, ...state };
    peer.streamOf(source).addTrack(consumer.track);
    this.changed();
  }

  /**
   * Waits for what else has arrived by now. The server announces a peer's audio and video one right after the other, and
   * mediasoup-client sets up in one round of negotiation what is asked of it at one time; one after the other, the
   * picture would wait for the sound's round.
   */
  private gathered(): Promise<void> {
    this.gathering ??= delay(0).then(() => {
      this.gathering = undefined;
    });
    return this.gathering;
  }

  private newPeer(info: PeerInfo): void {
    this.gone.delete(info.id);
    this.peer(info.id).update(info);
    this.changed();
  }

  private rename({ peerId, displayName }: Notifications['peerDisplayNameChanged']): void {
    const peer = this.peers.get(peerId);
    if (peer) peer.displayName = displayName;
    this.changed();
  }

  private closePeer(id: string): void {
    this.gone.add(id);
    for (const [consumerId, { peer }] of this.consumers) if (peer.id === id) this.closeConsumer(consumerId);
    this.peers.delete(id);
    this.changed();
  }

  private closeConsumer(id: string): void {
    this.gone.add(id);
    this.states.delete(id);
    const received = this.consumers.get(id);
    if (!received) return;
    const { consumer, peer, source } = received;
    // A newer one may have its place already.
    if (this.incoming(id)) delete peer.sources[source];
    this.consumers.delete(id);
    consumer.close();
    peer.streamOf(source).removeTrack(consumer.track);
    this.changed();
  }

  private setState(id: string, change: Partial<State>): void {
    const state = { paused: false, spatialLayer: undefined, ...this.states.get(id), ...change };
    this.states.set(id, state);
    const incoming = this.incoming(id);
    if (incoming) Object.assign(incoming, state);
    this.changed();
  }

  /** What is shown of a consumer, unless a newer one has its place. */
  private incoming(id: string): Incoming | undefined {
    const received = this.consumers.get(id);
    const incoming = received?.peer.sources[received.source];
    return incoming?.consumerId === id ? incoming : undefined;
  }

  private peer(id: string): Peer {
    let peer = this.peers.get(id);
    if (!peer) {
      peer = new Peer(id);
      this.peers.set(id, peer);
    }
    return peer;
  }
}
