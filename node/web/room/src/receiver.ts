/** What comes of the others: who is in the room, and what this page receives of them. */
import type { types } from 'mediasoup-client';
import type { NewConsumer, Notifications, PeerInfo, Resumed } from './demo-v3';
import type { Kind } from './devices';
import { Peer } from './peers';
import { delay } from './promises';

interface Received {
  consumer: types.Consumer;
  peer: Peer;
  kind: Kind;
}

export class Receiver {
  readonly peers = new Map<string, Peer>();
  private readonly consumers = new Map<string, Received>();
  /** Those that are on their way to be among the consumers. */
  private readonly setups = new Map<string, Promise<void>>();
  private readonly paused = new Map<string, boolean>();
  /** Peers and consumers, because the news that one has ended may overtake its setting up. */
  private readonly gone = new Set<string>();
  private gathering: Promise<void> | undefined;

  /** `changed` is called when a peer comes, goes or changes. */
  constructor(
    private readonly transport: Promise<Pick<types.Transport, 'consume'>>,
    private readonly changed: () => void,
  ) {}

  /** Receives what the server offers. Resolves when it is set up, also if it is offered again meanwhile. */
  consume(request: NewConsumer): Promise<void> {
    const { id } = request;
    this.gone.delete(id);
    this.paused.set(id, request.producerPaused);
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
        return this.setPaused((data as Notifications['consumerPaused']).consumerId, true);
      case 'consumerResumed':
        return this.setPaused((data as Notifications['consumerResumed']).consumerId, false);
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
    for (const [id, isPaused] of paused) this.setPaused(id, isPaused);
  }

  private async setUp({ id, peerId, producerId, kind, rtpParameters, appData }: NewConsumer): Promise<void> {
    const transport = await this.transport;
    await this.gathered();
    const consumer = await transport.consume({ id, producerId, kind, rtpParameters, streamId: peerId });
    if (this.gone.has(peerId) || this.gone.has(id)) {
      consumer.close();
      return;
    }
    const peer = this.peer(peerId);
    this.consumers.set(id, { consumer, peer, kind });
    peer.hops = appData?.hops ?? peer.hops;
    peer.sources[kind] = { consumerId: id, paused: this.paused.get(id) === true };
    peer.stream.addTrack(consumer.track);
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
    this.paused.delete(id);
    const received = this.consumers.get(id);
    if (!received) return;
    const { consumer, peer, kind } = received;
    this.consumers.delete(id);
    consumer.close();
    peer.stream.removeTrack(consumer.track);
    // A newer one may have its place already.
    if (peer.sources[kind]?.consumerId === id) delete peer.sources[kind];
    this.changed();
  }

  private setPaused(id: string, paused: boolean): void {
    this.paused.set(id, paused);
    const received = this.consumers.get(id);
    const source = received?.peer.sources[received.kind];
    if (source?.consumerId === id) source.paused = paused;
    this.changed();
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
