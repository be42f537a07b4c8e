/**
 * One connection's life in a room, from the WebSocket's opening to its end: transports, what is sent, what is received.
 *
 * A joiner wants to see the others as soon as possible, which decides the order here. Everything that needs no answer of
 * the server goes out in one flight; DTLS starts while `connectWebRtcTransport` is under way; and sending waits a moment
 * for the first picture, so that encoders and a second handshake do not compete with it.
 */
import type { types } from 'mediasoup-client';
import { deviceFor, rememberedDevice, type LoadedDevice } from './capabilities';
import type { JoinResponse, NewConsumer, Notifications, PeerInfo, TransportInfo } from './demo-v3';
import type { Kind, LocalMedia } from './devices';
import { Emitter } from './emitter';
import { mark } from './marks';
import { Peer } from './peers';
import { Protoo, RequestError, type Closed } from './protoo';
import { Publisher } from './publisher';
import { explainFailure } from './reach';

/** Sending does not wait longer than this for the receiving transport. */
const CONNECTED_AT_LATEST_MS = 1_500;

/** Nor, once that is connected, longer than this for the first picture. */
const PICTURE_AT_LATEST_MS = 400;

/** How long a media connection may be interrupted before ICE is restarted. */
const ICE_PATIENCE_MS = 3_000;

/** How the media connection to the node does. `unreachable`: it never came to be, or could not be repaired, though it is tried on. */
export type MediaState = 'connecting' | 'connected' | 'interrupted' | 'unreachable';

type Events = {
  /** A peer came, went, or changed. */
  peers: Map<string, Peer>;
  speaker: string | null;
  media: MediaState;
  /** Something failed that the user should know of and that does not end the session. */
  notice: string;
  closed: Closed;
};

/** The server's answers were for a device loaded from capabilities that it no longer has: connect anew. */
export class StaleCapabilities extends Error {}

export interface SessionOptions {
  /** The WebSocket address for a peer with this secret. */
  url(secret: string | undefined): string;
  secret: { get(): string | undefined; set(secret: string): void };
  displayName: string;
  media: LocalMedia;
}

export class Session extends Emitter<Events> {
  readonly peers = new Map<string, Peer>();
  /** Where this page is connected, if the server tells. */
  home: { region?: string; node?: string } = {};
  private readonly consumers = new Map<string, { consumer: types.Consumer; peer: Peer; kind: Kind }>();
  private readonly paused = new Map<string, boolean>();
  private readonly gone = new Set<string>();
  private protoo: Protoo | undefined;
  private recvTransport: types.Transport | undefined;
  private sendTransport: types.Transport | undefined;
  private publisher: Publisher | undefined;
  private readonly recvReady = deferred<types.Transport>();
  private readonly recvConnected = deferred<void>();
  private readonly picture = deferred<void>();
  /** Transports that were connected and have not failed since. */
  private readonly healthy = new Set<string>();
  /** Transports that failed without that, or failed to be repaired. */
  private readonly failed = new Set<string>();
  private candidates: types.IceCandidate[] = [];
  private readonly iceTimers = new Map<string, ReturnType<typeof setTimeout>>();
  private gathering: Promise<void> | undefined;
  private ended = false;

  private constructor(private readonly options: SessionOptions) {
    super();
    // Nobody may be waiting for it when the session ends early.
    this.recvReady.promise.catch(() => {});
  }

  /**
   * Connects and joins. `observe` gets the session before anything can happen on it.
   *
   * Rejects with a {@link RequestError} when the server refuses, else because it cannot be reached.
   */
  static async join(options: SessionOptions, observe: (session: Session) => void): Promise<Session> {
    const session = new Session(options);
    observe(session);
    const device = rememberedDevice();
    const protoo = await Protoo.open(options.url(options.secret.get()), (method, data) => session.serve(method, data));
    mark('ws-open');
    session.protoo = protoo;
    protoo.on('notification', ({ method, data }) => session.notified(method as keyof Notifications, data));
    protoo.on('close', (closed) => session.end(closed));
    try {
      if (session.ended) throw new Error('left');
      await session.enter(protoo, await device);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  /** Leaves the room. */
  close(): void {
    this.protoo?.close();
    this.end({ code: 1000, reason: '' });
  }

  /** Why the media are unreachable, in words. */
  explainUnreachable(): string {
    return explainFailure(this.candidates, navigator.userAgent);
  }

  /** Is to be called when a picture of somebody is seen. */
  pictureSeen(): void {
    this.picture.resolve();
  }

  /** What the browser's WebRTC statistics say of each direction. */
  async stats(): Promise<{ recv: RTCStatsReport | undefined; send: RTCStatsReport | undefined }> {
    const [recv, send] = await Promise.all([this.recvTransport?.getStats(), this.sendTransport?.getStats()]);
    return { recv, send };
  }

  private async enter(protoo: Protoo, known: LoadedDevice | undefined): Promise<void> {
    const capabilities = protoo.request<types.RtpCapabilities>('getRouterRtpCapabilities');
    const transport = (direction: { producing: boolean; consuming: boolean }) =>
      protoo.request<TransportInfo>('createWebRtcTransport', { forceTcp: false, ...direction });
    const recvInfo = transport({ producing: false, consuming: true });
    const sendInfo = transport({ producing: true, consuming: false });
    const early = known && this.requestJoin(protoo, known);
    // An early failure of one shall not leave the others' rejections unhandled.
    for (const answer of [capabilities, recvInfo, sendInfo, early]) answer?.catch(() => {});

    if (known) this.receiveOver(protoo, known, await recvInfo);
    const loaded = await deviceFor(await capabilities, known);
    if (known && loaded !== known) throw new StaleCapabilities();
    if (!known) this.receiveOver(protoo, loaded, await recvInfo);
    this.joined(await (early ?? this.requestJoin(protoo, loaded)));
    void this.publish(protoo, loaded, await sendInfo);
  }

  private requestJoin(protoo: Protoo, { device }: LoadedDevice): Promise<JoinResponse> {
    return protoo.request<JoinResponse>('join', {
      displayName: this.options.displayName,
      device: { flag: 'sluice', name: 'Sluice room page', version: '1' },
      rtpCapabilities: device.recvRtpCapabilities,
    });
  }

  private joined(response: JoinResponse): void {
    mark('joined');
    const { peerSecret, peers, ...home } = response;
    this.home = home;
    if (peerSecret) this.options.secret.set(peerSecret);
    for (const info of peers) {
      if (!this.gone.has(info.id)) this.peer(info.id).update(info);
    }
    this.emit('peers', this.peers);
  }

  private receiveOver(protoo: Protoo, { device }: LoadedDevice, info: TransportInfo): void {
    const transport = device.createRecvTransport(info);
    this.candidates = info.iceCandidates;
    this.recvTransport = transport;
    this.watch(protoo, transport);
    this.recvReady.resolve(transport);
  }

  /** Starts to send once receiving is under way, or at once if there is nothing to receive. */
  private async publish(protoo: Protoo, { device }: LoadedDevice, info: TransportInfo): Promise<void> {
    if (this.peers.size > 0) await this.received();
    if (this.ended) return;
    const transport = device.createSendTransport(info);
    this.sendTransport = transport;
    this.watch(protoo, transport);
    transport.on('produce', ({ kind, rtpParameters }, done, fail) => {
      protoo
        .request<{ id: string }>('produce', { transportId: transport.id, kind, rtpParameters, appData: { source: kind } })
        .then(done, fail);
    });
    this.publisher = new Publisher(device, transport, this.options.media, protoo, (text) => this.emit('notice', text));
  }

  /** Waits for the first picture, if one is to be expected, but not for long. */
  private async received(): Promise<void> {
    await Promise.race([this.recvConnected.promise, delay(CONNECTED_AT_LATEST_MS)]);
    const expected = [...this.peers.values()].some((peer) => peer.isSending('video'));
    if (expected) await Promise.race([this.picture.promise, delay(PICTURE_AT_LATEST_MS)]);
  }

  private watch(protoo: Protoo, transport: types.Transport): void {
    transport.on('connect', ({ dtlsParameters }, done) => {
      // Not awaited: the server keeps an early ClientHello until it has the fingerprint, and this saves a round trip.
      protoo.request('connectWebRtcTransport', { transportId: transport.id, dtlsParameters }).catch((error: Error) => {
        if (!this.ended) this.emit('notice', `The media connection was refused: ${error.message}`);
      });
      done();
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'connected' && transport === this.recvTransport) {
        mark('recv-connected');
        this.recvConnected.resolve();
      }
      this.followIce(protoo, transport, state);
      this.emit('media', this.mediaState());
    });
  }

  private mediaState(): MediaState {
    const states = [this.recvTransport?.connectionState, this.sendTransport?.connectionState];
    if (this.failed.size > 0) return 'unreachable';
    if (states.some((state) => state === 'disconnected' || state === 'failed')) return 'interrupted';
    return states.includes('connected') ? 'connected' : 'connecting';
  }

  /** Restarts ICE when a connection has failed, or has been interrupted for a while (a network change, a NAT's restart). */
  private followIce(protoo: Protoo, transport: types.Transport, state: types.ConnectionState): void {
    clearTimeout(this.iceTimers.get(transport.id));
    if (state === 'connected') {
      this.healthy.add(transport.id);
      this.failed.delete(transport.id);
    }
    if (state === 'failed') {
      // What was there and fails is an interruption, which may be repaired.
      if (!this.healthy.delete(transport.id)) this.failed.add(transport.id);
      void this.restartIce(protoo, transport);
    } else if (state === 'disconnected') {
      this.iceTimers.set(transport.id, setTimeout(() => void this.restartIce(protoo, transport), ICE_PATIENCE_MS));
    }
  }

  private async restartIce(protoo: Protoo, transport: types.Transport): Promise<void> {
    try {
      const iceParameters = await protoo.request<types.IceParameters>('restartIce', { transportId: transport.id });
      if (!transport.closed) await transport.restartIce({ iceParameters });
    } catch (error) {
      // The way to the node is gone for media and perhaps for signalling too: start over.
      if (!this.ended) this.end({ code: 0, reason: `the media connection was lost (${(error as Error).message})` });
    }
  }

  private async serve(method: string, data: never): Promise<unknown> {
    if (method === 'newConsumer') {
      return this.consume(data).catch((error: Error) => {
        if (!this.ended) this.emit('notice', `Somebody's ${(data as NewConsumer).kind} cannot be received: ${error.message}`);
        throw error;
      });
    }
    throw new RequestError(method, 501, `this page does not know the request "${method}"`);
  }

  private async consume(request: NewConsumer): Promise<void> {
    const transport = await this.recvReady.promise;
    await this.gathered();
    const { id, producerId, kind, rtpParameters } = request;
    const consumer = await transport.consume({ id, producerId, kind, rtpParameters, streamId: request.peerId });
    if (this.gone.has(request.peerId) || this.gone.has(id)) {
      consumer.close();
      return;
    }
    const peer = this.peer(request.peerId);
    this.consumers.set(id, { consumer, peer, kind });
    peer.hops = request.appData?.hops ?? peer.hops;
    peer.sources[kind] = { consumerId: id, paused: this.paused.get(id) ?? request.producerPaused };
    peer.stream.addTrack(consumer.track);
    this.emit('peers', this.peers);
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

  private notified(method: keyof Notifications, data: never): void {
    switch (method) {
      case 'newPeer':
        this.newPeer(data);
        break;
      case 'peerClosed':
        this.closePeer((data as Notifications['peerClosed']).peerId);
        break;
      case 'peerDisplayNameChanged':
        this.rename(data);
        break;
      case 'consumerClosed':
        this.closeConsumer((data as Notifications['consumerClosed']).consumerId);
        break;
      case 'consumerPaused':
        this.setPaused((data as Notifications['consumerPaused']).consumerId, true);
        break;
      case 'consumerResumed':
        this.setPaused((data as Notifications['consumerResumed']).consumerId, false);
        break;
      case 'activeSpeaker':
        this.emit('speaker', (data as Notifications['activeSpeaker']).peerId);
        break;
    }
  }

  private newPeer(info: PeerInfo): void {
    this.gone.delete(info.id);
    this.peer(info.id).update(info);
    this.emit('peers', this.peers);
  }

  private rename({ peerId, displayName }: Notifications['peerDisplayNameChanged']): void {
    const peer = this.peers.get(peerId);
    if (peer) peer.displayName = displayName;
    this.emit('peers', this.peers);
  }

  private closePeer(id: string): void {
    this.gone.add(id);
    for (const [consumerId, { peer }] of this.consumers) if (peer.id === id) this.closeConsumer(consumerId);
    this.peers.delete(id);
    this.emit('peers', this.peers);
  }

  private closeConsumer(id: string): void {
    // Remembered, because the notification may overtake the end of `consume`.
    this.gone.add(id);
    this.paused.delete(id);
    const entry = this.consumers.get(id);
    if (!entry) return;
    this.consumers.delete(id);
    entry.consumer.close();
    entry.peer.stream.removeTrack(entry.consumer.track);
    delete entry.peer.sources[entry.kind];
    this.emit('peers', this.peers);
  }

  private setPaused(id: string, paused: boolean): void {
    this.paused.set(id, paused);
    const entry = this.consumers.get(id);
    const source = entry?.peer.sources[entry.kind];
    if (source) source.paused = paused;
    this.emit('peers', this.peers);
  }

  private peer(id: string): Peer {
    let peer = this.peers.get(id);
    if (!peer) {
      peer = new Peer(id);
      this.peers.set(id, peer);
    }
    return peer;
  }

  private end(closed: Closed): void {
    if (this.ended) return;
    this.ended = true;
    for (const timer of this.iceTimers.values()) clearTimeout(timer);
    this.recvReady.reject(new Error('the session has ended'));
    this.publisher?.close();
    this.recvTransport?.close();
    this.sendTransport?.close();
    this.protoo?.close();
    this.emit('closed', closed);
  }
}

interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

function deferred<T>(): Deferred<T> {
  let settle!: Pick<Deferred<T>, 'resolve' | 'reject'>;
  const promise = new Promise<T>((resolve, reject) => (settle = { resolve, reject }));
  return { promise, ...settle };
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
