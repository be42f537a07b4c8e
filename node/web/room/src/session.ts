/**
 * One stay in a room, from the WebSocket's opening to its end: transports, what is sent, what is received. A WebSocket
 * that breaks and is replaced in time does not end it.
 *
 * A joiner wants to see the others as soon as possible, which decides the order here. Everything that needs no answer of
 * the server goes out in one flight; DTLS starts while `connectWebRtcTransport` is under way; and sending waits a moment
 * for the first picture, so that encoders and a second handshake do not compete with it.
 */
import type { types } from 'mediasoup-client';
import { deviceFor, rememberedDevice, type LoadedDevice } from './capabilities';
import { DataPublisher } from './data/data-publisher';
import { DataReceiver, type DataMessage, type Origin } from './data/data-receiver';
import { SCTP_CAPABILITIES, type JoinResponse, type NewConsumer, type Notifications, type TransportInfo } from './demo-v3';
import { Emitter } from './emitter';
import { mark } from './marks';
import { MediaPath } from './media-path';
import type { Peer } from './peers';
import { deferred, delay } from './promises';
import { RequestError, type Closed } from './protoo';
import { Publisher, type Outgoing } from './publisher';
import { explainFailure } from './reach';
import { Receiver } from './receiver';
import { Signalling } from './signalling';

/** Sending does not wait longer than this for the receiving transport. */
const CONNECTED_AT_LATEST_MS = 1_500;

/** Nor, once that is connected, longer than this for the first picture. */
const PICTURE_AT_LATEST_MS = 400;

/**
 * How the connection to the node does. `unreachable`: media never found a way, or could not be repaired, though it is tried
 * on. `unheard`: media may go on, but signalling is interrupted.
 */
export type LinkState = 'connecting' | 'connected' | 'interrupted' | 'unreachable' | 'unheard';

type Events = {
  /** A peer came, went, or changed. */
  peers: ReadonlyMap<string, Peer>;
  speaker: string | null;
  link: LinkState;
  /** Somebody came, or several did; so many are here now, as far as is known. */
  arrival: number;
  /** A peer sent something over a data channel. */
  data: DataMessage;
  /** A peer has no such data channel any more. */
  dataEnded: Origin;
  /** Something failed that the user should know of and that does not end the session. */
  notice: string;
  closed: Closed;
};

/** The server's answers were for a device loaded from capabilities that it no longer has: connect anew. */
export class StaleCapabilities extends Error {}

export interface SessionOptions {
  /** The WebSocket's address, for a peer that joins or for one that goes on after its connection broke. */
  url(resumes: boolean): string;
  /** Keeps what the peer is known by when it comes again. */
  secret: { set(secret: string): void };
  displayName: string;
  /** Media go by TCP only. */
  forceTcp: boolean;
  outgoing: Outgoing;
  /** By which ways media may go; without it by all. */
  iceTransportPolicy?: RTCIceTransportPolicy | undefined;
}

export class Session extends Emitter<Events> {
  /** Where this page is connected, if the server tells. */
  home: { region?: string; node?: string } = {};
  /** Whether the server has data channels. */
  hasData = false;
  private signalling: Signalling | undefined;
  private recvTransport: types.Transport | undefined;
  private sendTransport: types.Transport | undefined;
  private publisher: Publisher | undefined;
  private readonly recvReady = deferred<types.Transport>();
  private readonly sendReady = deferred<types.Transport>();
  private readonly receiver: Receiver;
  private readonly dataReceiver: DataReceiver;
  private readonly dataPublisher: DataPublisher;
  /** How many are in a room where not all are told of. */
  private audience = 0;
  private readonly unsubscribe: (() => void)[];
  private readonly recvConnected = deferred<void>();
  private readonly picture = deferred<void>();
  private readonly paths: MediaPath[] = [];
  private candidates: types.IceCandidate[] = [];
  /** URLs of TURN. */
  private turn: string[] = [];
  private unheard = false;
  private ended = false;

  private constructor(private readonly options: SessionOptions) {
    super();
    const { encryption } = options.outgoing;
    this.receiver = new Receiver(this.recvReady.promise, encryption, () => this.emit('peers', this.peers));
    this.dataReceiver = new DataReceiver(
      this.recvReady.promise,
      (message) => this.emit('data', message),
      (origin) => this.emit('dataEnded', origin),
    );
    this.dataPublisher = new DataPublisher(this.sendReady.promise, (id) => this.command('closeDataProducer', { dataProducerId: id }));
    this.unsubscribe = [
      encryption.on('readable', ({ consumerId, readable }) => this.setReadable(consumerId, readable)),
      encryption.on('change', () => this.receiver.unreadable.forEach((id) => this.command('resumeConsumer', { consumerId: id }))),
    ];
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
    const signalling = await Signalling.open(options.url, (method, data) => session.serve(method, data));
    mark('ws-open');
    session.signalling = signalling;
    signalling.on('notification', ({ method, data }) => session.notified(method as keyof Notifications, data));
    signalling.on('interrupted', (interrupted) => session.setUnheard(interrupted));
    signalling.on('close', (closed) => session.end(closed));
    try {
      if (session.ended) throw new Error('left');
      await session.enter(signalling, await device);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  get peers(): ReadonlyMap<string, Peer> {
    return this.receiver.peers;
  }

  /** Leaves the room. */
  close(): void {
    this.signalling?.close();
    this.end({ code: 1000, reason: '' });
  }

  /** Why the media are unreachable, in words. */
  explainUnreachable(): string {
    return explainFailure(this.candidates, this.turn, navigator.userAgent);
  }

  /** Is to be called when a picture of somebody is seen. */
  pictureSeen(): void {
    this.picture.resolve();
  }

  /** Asks for layers of a consumer's picture up to this one. */
  preferLayer(consumerId: string, spatialLayer: number): void {
    this.command('setConsumerPreferredLayers', { consumerId, spatialLayer });
  }

  /** Makes a data channel to all others. Rejects if the server refuses it, or has none. */
  produceData(label: string, protocol: string): Promise<types.DataProducer> {
    return this.dataPublisher.produce(label, protocol);
  }

  /** What the browser's WebRTC statistics say of each direction. */
  async stats(): Promise<{ recv: RTCStatsReport | undefined; send: RTCStatsReport | undefined }> {
    const [recv, send] = await Promise.all([this.recvTransport?.getStats(), this.sendTransport?.getStats()]);
    return { recv, send };
  }

  private async enter(signalling: Signalling, known: LoadedDevice | undefined): Promise<void> {
    const capabilities = signalling.request<types.RtpCapabilities>('getRouterRtpCapabilities');
    const transport = (direction: { producing: boolean; consuming: boolean }) =>
      signalling.request<TransportInfo>('createWebRtcTransport', {
        forceTcp: this.options.forceTcp,
        sctpCapabilities: SCTP_CAPABILITIES,
        ...direction,
      });
    const recvInfo = transport({ producing: false, consuming: true });
    const sendInfo = transport({ producing: true, consuming: false });
    const early = known && this.requestJoin(signalling, known);
    // An early failure of one shall not leave the others' rejections unhandled.
    for (const answer of [capabilities, recvInfo, sendInfo, early]) answer?.catch(() => {});

    if (known) this.receiveOver(signalling, known, await recvInfo);
    const loaded = await deviceFor(await capabilities, known);
    if (known && loaded !== known) throw new StaleCapabilities();
    if (!known) this.receiveOver(signalling, loaded, await recvInfo);
    this.joined(await (early ?? this.requestJoin(signalling, loaded)));
    void this.publish(signalling, loaded, await sendInfo);
  }

  private requestJoin(signalling: Signalling, { device }: LoadedDevice): Promise<JoinResponse> {
    return signalling.request<JoinResponse>('join', {
      displayName: this.options.displayName,
      device: { flag: 'sluice', name: 'Sluice room page', version: '1' },
      rtpCapabilities: device.recvRtpCapabilities,
      sctpCapabilities: SCTP_CAPABILITIES,
      adaptsEncodings: true,
    });
  }

  private joined(response: JoinResponse): void {
    mark('joined');
    const { peerSecret, peers, ...home } = response;
    this.home = home;
    if (peerSecret) this.options.secret.set(peerSecret);
    this.signalling?.keepPlace();
    this.receiver.found(peers);
  }

  /** The options of a transport, and the TURN servers that it is not told of yet. */
  private transportOptions({ device }: LoadedDevice, info: TransportInfo): [types.TransportOptions, RTCIceServer[]] {
    const { iceTransportPolicy } = this.options;
    if (iceTransportPolicy) return [{ ...info, iceTransportPolicy }, []];
    // Firefox cannot be told of them later.
    if (!info.iceServers || device.handlerName.startsWith('Firefox')) return [info, []];
    const { iceServers, ...direct } = info;
    return [direct, iceServers];
  }

  private receiveOver(signalling: Signalling, loaded: LoadedDevice, info: TransportInfo): void {
    const [options, detour] = this.transportOptions(loaded, info);
    const transport = loaded.device.createRecvTransport(options);
    this.hasData = info.sctpParameters !== undefined;
    this.candidates = info.iceCandidates;
    this.turn = (info.iceServers ?? []).flatMap(({ urls }) => urls);
    this.recvTransport = transport;
    this.watch(signalling, transport, detour);
    this.recvReady.resolve(transport);
  }

  /** Starts to send once receiving is under way, or at once if there is nothing to receive. */
  private async publish(signalling: Signalling, loaded: LoadedDevice, info: TransportInfo): Promise<void> {
    if (this.peers.size > 0) await this.received();
    if (this.ended) return;
    const { device } = loaded;
    const [options, detour] = this.transportOptions(loaded, info);
    const transport = device.createSendTransport(options);
    this.sendTransport = transport;
    this.watch(signalling, transport, detour);
    transport.on('produce', (producer, done, fail) => {
      signalling.requestOnce<{ id: string }>('produce', { transportId: transport.id, ...producer }).then(done, fail);
    });
    transport.on('producedata', (producer, done, fail) => {
      signalling.requestOnce<{ id: string }>('produceData', { transportId: transport.id, ...producer }).then(done, fail);
    });
    this.sendReady.resolve(transport);
    this.publisher = new Publisher(device, transport, this.options.outgoing, signalling, (text) => this.emit('notice', text));
  }

  /** Waits for the first picture, if one is to be expected, but not for long. */
  private async received(): Promise<void> {
    await Promise.race([this.recvConnected.promise, delay(CONNECTED_AT_LATEST_MS)]);
    const expected = [...this.peers.values()].some((peer) => peer.isSending('video'));
    if (expected) await Promise.race([this.picture.promise, delay(PICTURE_AT_LATEST_MS)]);
  }

  private watch(signalling: Signalling, transport: types.Transport, detour: RTCIceServer[]): void {
    const newParameters = () => signalling.request<types.IceParameters>('restartIce', { transportId: transport.id });
    const path = new MediaPath(transport, detour, newParameters, (error) => {
      // The way to the node is gone for media and perhaps for signalling too: start over.
      if (!this.ended) this.end({ code: 0, reason: `the media connection was lost (${error.message})` });
    });
    this.paths.push(path);
    transport.on('connect', ({ dtlsParameters }, done) => {
      // Not awaited: the server keeps an early ClientHello until it has the fingerprint, and this saves a round trip.
      signalling.request('connectWebRtcTransport', { transportId: transport.id, dtlsParameters }).catch((error: Error) => {
        if (!this.ended) this.emit('notice', `The media connection was refused: ${error.message}`);
      });
      done();
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'connected' && transport === this.recvTransport) {
        mark('recv-connected');
        this.recvConnected.resolve();
      }
      path.follow(state);
      this.emit('link', this.linkState());
    });
  }

  private linkState(): LinkState {
    if (this.unheard) return 'unheard';
    const states = [this.recvTransport?.connectionState, this.sendTransport?.connectionState];
    if (this.paths.some(({ hasFailed }) => hasFailed)) return 'unreachable';
    if (states.some((state) => state === 'disconnected' || state === 'failed')) return 'interrupted';
    return states.includes('connected') ? 'connected' : 'connecting';
  }

  private async serve(method: string, data: never): Promise<unknown> {
    if (method === 'newConsumer') {
      return this.receiver.consume(data).catch((error: Error) => {
        if (!this.ended) this.emit('notice', `Somebody's ${(data as NewConsumer).kind} cannot be received: ${error.message}`);
        throw error;
      });
    }
    if (method === 'newDataConsumer') return this.dataReceiver.consume(data);
    throw new RequestError(method, 501, `this page does not know the request "${method}"`);
  }

  private notified(method: keyof Notifications, data: never): void {
    if (method === 'activeSpeaker') {
      this.emit('speaker', (data as Notifications['activeSpeaker']).peerId);
    } else if (method === 'resumed') {
      const { peerSecret, producers, dataProducers, dataConsumers } = data as Notifications['resumed'];
      if (peerSecret) this.options.secret.set(peerSecret);
      this.receiver.reconcile(data);
      this.publisher?.reconcile(producers);
      if (dataConsumers) this.dataReceiver.reconcile(dataConsumers.map(({ id }) => id));
      if (dataProducers) this.dataPublisher.reconcile(dataProducers.map(({ id }) => id));
      this.arrived();
    } else if (method === 'producerPaused' || method === 'producerResumable') {
      this.publisher?.setMuted((data as Notifications['producerPaused']).producerId, method === 'producerPaused');
    } else if (method === 'producerEncodingsWanted') {
      const { producerId, wanted } = data as Notifications['producerEncodingsWanted'];
      this.publisher?.setWanted(producerId, wanted);
    } else if (method === 'dataConsumerClosed') {
      this.dataReceiver.close((data as Notifications['dataConsumerClosed']).dataConsumerId);
    } else if (method === 'audience') {
      const { total } = data as Notifications['audience'];
      const more = total > this.audience;
      this.audience = total;
      if (more) this.arrived();
    } else {
      this.receiver.notified(method, data);
      if (method === 'newPeer') this.arrived();
      if (method === 'peerClosed') this.dataReceiver.closePeer((data as Notifications['peerClosed']).peerId);
    }
  }

  private arrived(): void {
    this.emit('arrival', Math.max(this.audience, this.peers.size));
  }

  /** What cannot be read is not sent for, or its sender would be asked for key frames for ever. */
  private setReadable(consumerId: string, readable: boolean): void {
    this.receiver.setReadable(consumerId, readable);
    if (!readable) this.command('pauseConsumer', { consumerId });
  }

  /** Asks for something of what may end by itself before that. */
  private command(method: string, data: object): void {
    this.signalling?.request(method, data).catch(() => {});
  }

  private setUnheard(unheard: boolean): void {
    this.unheard = unheard;
    this.emit('link', this.linkState());
  }

  private end(closed: Closed): void {
    if (this.ended) return;
    this.ended = true;
    for (const path of this.paths) path.close();
    for (const end of this.unsubscribe) end();
    for (const ready of [this.recvReady, this.sendReady]) ready.reject(new Error('the session has ended'));
    this.publisher?.close();
    this.recvTransport?.close();
    this.sendTransport?.close();
    this.signalling?.close();
    this.emit('closed', closed);
  }
}
