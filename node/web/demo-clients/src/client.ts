/**
 * A client of mediasoup-demo as its apps are: protoo-client, mediasoup-client, and the calls of `RoomClient.join` in
 * their order, in either dialect, with three encodings of video, as the apps do by default. Data channels are off, as with
 * `datachannel=false`, if nothing else is said.
 */
import type { types } from 'mediasoup-client';
import protoo from 'protoo-client';
import { scramble } from './scramble';
import { drawn, tone, type Picture } from './source';
import { Watch } from './watch';

/** Of version 3's JavaScript server, or of the TypeScript server. */
export type Dialect = 'v3' | 'ts';

/** What the apps send of a camera. */
const CAMERA_ENCODINGS: types.RtpEncodingParameters[] = [
  { scaleResolutionDownBy: 4, maxBitrate: 500_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 2, maxBitrate: 1_000_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 1, maxBitrate: 5_000_000, scalabilityMode: 'L1T3' },
];

/** What is different between the dialects. */
interface Shapes {
  query: Record<string, string>;
  capabilities(answer: Answer): types.RtpCapabilities;
  createTransport(direction: 'producer' | 'consumer'): Record<string, unknown>;
  transportId(answer: Answer): string;
  producerId(answer: Answer): string;
  consumerId(asked: Answer): string;
  appData(kind: types.MediaKind): Record<string, unknown>;
  dataProducerId(answer: Answer): string;
  dataConsumerId(asked: Answer): string;
  dataProducer(label: 'chat' | 'bot'): types.DataProducerOptions;
  peer(told: Answer): Answer;
  peerId(peer: Answer): string;
}

/** What comes over the wire: what the server said is looked at by the tests. */
type Answer = any;

const V3: Shapes = {
  query: {},
  capabilities: (answer) => answer,
  createTransport: (direction) => ({ producing: direction === 'producer', consuming: direction === 'consumer' }),
  transportId: ({ id }) => id,
  producerId: ({ id }) => id,
  consumerId: ({ id }) => id,
  appData: () => ({}),
  dataProducerId: ({ id }) => id,
  dataConsumerId: ({ id }) => id,
  dataProducer: (label) => ({
    label,
    ...(label === 'chat' ? { maxRetransmits: 1 } : { maxPacketLifeTime: 2_000 }),
    ordered: false,
    appData: { info: `my-${label}-DataProducer` },
  }),
  peer: (told) => told,
  peerId: ({ id }) => id,
};

const TS: Shapes = {
  query: { usePipeTransports: 'false' },
  capabilities: ({ routerRtpCapabilities }) => routerRtpCapabilities,
  createTransport: (direction) => ({ appData: { direction } }),
  transportId: ({ transportId }) => transportId,
  producerId: ({ producerId }) => producerId,
  consumerId: ({ consumerId }) => consumerId,
  appData: (kind) => ({ source: kind }),
  dataProducerId: ({ dataProducerId }) => dataProducerId,
  dataConsumerId: ({ dataConsumerId }) => dataConsumerId,
  dataProducer: (label) => ({ label, ordered: true, appData: { channel: label } }),
  peer: ({ peer }) => peer,
  peerId: ({ peerId }) => peerId,
};

/** What a client sends that has no camera and microphone: a picture that is drawn, and a tone. */
export interface Sending {
  picture: Picture;
  /** Such as `video/VP8`; what comes first, if nothing is said. */
  codec?: string;
  /** What the apps send of a camera, if nothing is said. */
  encodings?: types.RtpEncodingParameters[];
}

export interface Options {
  dialect: Dialect;
  /** Of the node: `http://host:port`. */
  node: string;
  room: string;
  name: string;
  /** Camera and microphone, as the apps do, if nothing else is said. */
  sends?: Sending | 'nothing';
  /** Whether there are data channels. */
  data?: boolean;
  /** Whether video is readable for pages alone: all in the room are to say the same. */
  scrambled?: boolean;
}

/** What has arrived of a peer so far. */
export interface Progress {
  frames: number;
  energy: number;
}

export class Client {
  /** What was not as it should be. */
  readonly errors: string[] = [];
  private readonly shapes: Shapes;
  private readonly peers = new Map<string, string>();
  private readonly consumers = new Map<string, types.Consumer>();
  private readonly producers = new Map<types.MediaKind, types.Producer>();
  private readonly layers = new Map<string, number>();
  private readonly types = new Map<string, string>();
  private readonly watches = new Map<string, Watch>();
  private readonly dataProducers = new Map<string, types.DataProducer>();
  private readonly dataConsumers = new Map<string, types.DataConsumer>();
  /** Texts, by peer. */
  private readonly texts = new Map<string, string[]>();
  private protoo!: protoo.Peer;
  private sendTransport!: types.Transport;
  private recvTransport!: types.Transport;
  private version: string | undefined;

  constructor(
    private readonly device: types.Device,
    private readonly options: Options,
  ) {
    this.shapes = options.dialect === 'v3' ? V3 : TS;
  }

  async join(): Promise<void> {
    const { node, room, name } = this.options;
    const query = new URLSearchParams({ roomId: room, peerId: name.toLowerCase(), ...this.shapes.query });
    const transport = new protoo.WebSocketTransport(`${node.replace('http', 'ws')}/?${query}`);
    this.protoo = new protoo.Peer(transport);
    this.protoo.on('notification', (notification: Answer) => this.hear(notification));
    this.protoo.on('request', (request: Answer, accept: () => void, reject: (error: Error) => void) => {
      this.consume(request).then(accept, (error: Error) => {
        this.errors.push(`${request.method}: ${error}`);
        reject(error);
      });
    });
    this.protoo.on('disconnected', () => this.errors.push('disconnected'));
    await new Promise((resolve, reject) => {
      this.protoo.on('open', resolve);
      this.protoo.on('failed', () => reject(new Error('the WebSocket failed')));
    });

    if (this.options.dialect === 'ts') await this.protoo.request('getRtcStatsUrl', {});
    const capabilities = this.shapes.capabilities(await this.protoo.request('getRouterRtpCapabilities', {}));
    await this.device.load({ routerRtpCapabilities: capabilities });
    this.sendTransport = await this.createTransport('producer');
    this.recvTransport = await this.createTransport('consumer');
    const { peers } = await this.protoo.request('join', {
      displayName: name,
      device: { flag: 'chrome', name: 'Chrome', version: '1' },
      rtpCapabilities: this.device.rtpCapabilities,
      ...(this.options.dialect === 'v3' && { sctpCapabilities: this.sctpCapabilities() }),
    });
    for (const peer of peers) this.peers.set(this.shapes.peerId(peer), peer.displayName);
    await this.publish();
    if (!this.options.data) return;
    for (const label of ['chat', 'bot'] as const) {
      this.dataProducers.set(label, await this.sendTransport.produceData(this.shapes.dataProducer(label)));
    }
  }

  /** The names of the others, as the server told of them. */
  names(): string[] {
    return [...this.peers.values()].sort();
  }

  /** What the server said it is. */
  serverVersion(): string | undefined {
    return this.version;
  }

  /** Whether what a peer sends is paused, by kind. */
  paused(peerId: string): Record<string, boolean> {
    return Object.fromEntries(this.of(peerId).map(({ kind, paused }) => [kind, paused]));
  }

  async progress(peerId: string): Promise<Progress> {
    const [video, audio] = await Promise.all([this.received(peerId, 'video'), this.received(peerId, 'audio')]);
    return { frames: Number(video['framesDecoded'] ?? 0), energy: Number(audio['totalAudioEnergy'] ?? 0) };
  }

  /** What the browser tells of the stream from a peer, by the names of WebRTC statistics. */
  async received(peerId: string, kind: types.MediaKind): Promise<Record<string, unknown>> {
    const stats = await this.consumer(peerId, kind)?.getStats();
    const entries = [...((stats?.values() ?? []) as Iterable<Record<string, unknown>>)];
    return entries.find(({ type }) => type === 'inbound-rtp') ?? {};
  }

  /** What mediasoup calls the type of the consumer: `simple`, `simulcast` or `svc`. */
  consumerType(peerId: string, kind: types.MediaKind): string | undefined {
    return this.types.get(this.consumer(peerId, kind)?.id ?? '');
  }

  /** Counts how long there is no new picture of a peer, from now on. */
  watch(peerId: string): void {
    this.watches.get(this.consumer(peerId, 'video')?.id ?? '')?.restart();
  }

  /** The longest time without one. */
  longestGapMs(peerId: string): number {
    return this.watches.get(this.consumer(peerId, 'video')?.id ?? '')?.longestGapMs() ?? Infinity;
  }

  /** The spatial layer that the server says it sends of a peer's picture. */
  layer(peerId: string): number | undefined {
    return this.layers.get(this.consumer(peerId, 'video')?.id ?? '');
  }

  /** Wants no better picture of a peer than this. */
  async prefer(peerId: string, spatialLayer: number, temporalLayer?: number): Promise<void> {
    const consumerId = this.consumer(peerId, 'video')?.id;
    if (consumerId) await this.say('setConsumerPreferredLayers', { consumerId, spatialLayer, temporalLayer });
  }

  /** Mutes the microphone, or unmutes it: said by request in one dialect, by notification in the other. */
  async mute(muted: boolean): Promise<void> {
    const producer = this.producers.get('audio');
    if (!producer) throw new Error('there is no microphone');
    if (muted) producer.pause();
    else producer.resume();
    await this.say(muted ? 'pauseProducer' : 'resumeProducer', { producerId: producer.id });
  }

  /** Whether a text of the user reaches the node by now. */
  canWrite(): boolean {
    return this.dataProducers.get('chat')?.readyState === 'open';
  }

  write(text: string): void {
    this.dataProducers.get('chat')?.send(text);
  }

  /** Whether what a peer writes can arrive. */
  canRead(peerId: string): boolean {
    return [...this.dataConsumers.values()].some(
      ({ label, readyState, appData }) => label === 'chat' && readyState === 'open' && appData['peerId'] === peerId,
    );
  }

  /** What a peer has written. */
  written(peerId: string): string[] {
    return this.texts.get(peerId) ?? [];
  }

  async stopVideo(): Promise<void> {
    const producer = this.producers.get('video');
    if (!producer) throw new Error('there is no camera');
    producer.close();
    await this.say('closeProducer', { producerId: producer.id });
  }

  leave(): void {
    this.protoo.close();
    this.sendTransport.close();
    this.recvTransport.close();
    document.body.replaceChildren();
  }

  private of(peerId: string): types.Consumer[] {
    return [...this.consumers.values()].filter(({ appData }) => appData['peerId'] === peerId);
  }

  private consumer(peerId: string, kind: types.MediaKind): types.Consumer | undefined {
    return this.of(peerId).find((consumer) => consumer.kind === kind);
  }

  private async say(method: string, data: Record<string, unknown>): Promise<void> {
    if (this.options.dialect === 'v3') await this.protoo.request(method, data);
    else await this.protoo.notify(method, data);
  }

  /** Later versions of mediasoup-client have none: their apps say what they always were. */
  private sctpCapabilities(): unknown {
    const { sctpCapabilities } = this.device as { sctpCapabilities?: unknown };
    return sctpCapabilities ?? { numStreams: { OS: 1024, MIS: 1024 } };
  }

  private async createTransport(direction: 'producer' | 'consumer'): Promise<types.Transport> {
    const answer = await this.protoo.request('createWebRtcTransport', {
      forceTcp: false,
      ...this.shapes.createTransport(direction),
      sctpCapabilities: this.sctpCapabilities(),
    });
    const options = {
      id: this.shapes.transportId(answer),
      iceParameters: answer.iceParameters,
      iceCandidates: answer.iceCandidates,
      dtlsParameters: { ...answer.dtlsParameters, role: 'auto' },
      sctpParameters: answer.sctpParameters,
      iceServers: [],
    };
    const transport =
      direction === 'producer' ? this.device.createSendTransport(options) : this.device.createRecvTransport(options);
    transport.on('connect', ({ dtlsParameters }, callback, errback) => {
      this.protoo.request('connectWebRtcTransport', { transportId: transport.id, dtlsParameters }).then(callback, errback);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, callback, errback) => {
      this.protoo
        .request('produce', { transportId: transport.id, kind, rtpParameters, appData })
        .then((answer: Answer) => callback({ id: this.shapes.producerId(answer) }), errback);
    });
    transport.on('producedata', ({ sctpStreamParameters, label, protocol, appData }, callback, errback) => {
      this.protoo
        .request('produceData', { transportId: transport.id, sctpStreamParameters, label, protocol, appData })
        .then((answer: Answer) => callback({ id: this.shapes.dataProducerId(answer) }), errback);
    });
    return transport;
  }

  private async publish(): Promise<void> {
    const { sends } = this.options;
    if (sends === 'nothing') return;
    const own = sends && { audio: tone(), video: drawn(sends.picture) };
    const { audio, video } = own ?? (await devices());
    const mic = await this.sendTransport.produce({
      track: audio,
      // Silence in which nothing is sent would look like loss.
      codecOptions: { opusStereo: true, opusDtx: !own, opusFec: true, opusNack: true },
      appData: this.shapes.appData('audio'),
    });
    const codec = this.device.rtpCapabilities.codecs?.find(({ mimeType }) => mimeType === sends?.codec);
    if (sends?.codec && !codec) throw new Error(`browser and server have not both ${sends.codec}`);
    const webcam = await this.sendTransport.produce({
      track: video,
      encodings: sends?.encodings ?? CAMERA_ENCODINGS,
      codecOptions: { videoGoogleStartBitrate: 1000 },
      appData: this.shapes.appData('video'),
      ...(codec && { codec }),
      onRtpSender: (sender) => {
        if (this.options.scrambled) scramble(sender);
      },
    });
    this.producers.set('audio', mic).set('video', webcam);
    if (own) await keepResolution(webcam);
  }

  private async consume({ method, data }: { method: string; data: Answer }): Promise<void> {
    if (method === 'newDataConsumer' && this.options.data) return this.consumeData(data);
    if (method !== 'newConsumer') throw new Error('unknown request');
    const { peerId, producerId, kind, rtpParameters, appData } = data;
    const consumer = await this.recvTransport.consume({
      id: this.shapes.consumerId(data),
      producerId,
      kind,
      rtpParameters,
      streamId: `${peerId}-camera`,
      appData: { ...appData, peerId },
      onRtpReceiver: (receiver) => {
        if (this.options.scrambled && kind === 'video') scramble(receiver);
      },
    });
    this.consumers.set(consumer.id, consumer);
    this.types.set(consumer.id, data.type);
    // Chromium decodes only what is played. It plays once there is something: not before the server has the answer.
    const element = document.createElement(kind === 'audio' ? 'audio' : 'video');
    element.srcObject = new MediaStream([consumer.track]);
    element.muted = kind === 'video';
    document.body.append(element);
    void element.play();
    if (element instanceof HTMLVideoElement) this.watches.set(consumer.id, new Watch(element));
  }

  private async consumeData(asked: Answer): Promise<void> {
    const { peerId, dataProducerId, sctpStreamParameters, label, protocol, appData } = asked;
    const id = this.shapes.dataConsumerId(asked);
    const parameters = { dataProducerId, sctpStreamParameters, label, protocol };
    const consumer = await this.recvTransport.consumeData({ id, ...parameters, appData: { ...appData, peerId } });
    this.dataConsumers.set(id, consumer);
    consumer.on('message', (message: unknown) => {
      if (typeof message !== 'string') this.errors.push(`${label} of ${peerId}: a message is no text`);
      else if (label === 'chat') this.texts.set(peerId, [...this.written(peerId), message]);
    });
  }

  private hear({ method, data }: { method: string; data: Answer }): void {
    const consumer = this.consumers.get(data.consumerId);
    switch (method) {
      case this.options.dialect === 'v3' ? 'mediasoup-version' : 'mediasoupVersion':
        this.version = data.version;
        break;
      case 'newPeer': {
        const peer = this.shapes.peer(data);
        this.peers.set(this.shapes.peerId(peer), peer.displayName);
        break;
      }
      case 'peerClosed':
        if (!this.peers.delete(data.peerId)) this.errors.push(`${data.peerId} went and had not come`);
        break;
      case 'consumerLayersChanged':
        this.layers.set(data.consumerId, (this.options.dialect === 'v3' ? data : data.layers)?.spatialLayer);
        break;
      case 'consumerPaused':
        consumer?.pause();
        break;
      case 'consumerResumed':
        consumer?.resume();
        break;
      case 'consumerClosed':
        consumer?.close();
        this.consumers.delete(data.consumerId);
        break;
      case 'dataConsumerClosed':
        this.dataConsumers.get(data.dataConsumerId)?.close();
        this.dataConsumers.delete(data.dataConsumerId);
        break;
    }
  }
}

async function devices(): Promise<Record<types.MediaKind, MediaStreamTrack>> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
  const [audio, video] = [stream.getAudioTracks()[0], stream.getVideoTracks()[0]];
  if (!audio || !video) throw new Error('there are no devices');
  return { audio, video };
}

/** A browser that is short of processor time drops pictures then, and does not make them smaller. */
async function keepResolution({ rtpSender }: types.Producer): Promise<void> {
  const parameters = rtpSender?.getParameters();
  if (parameters) await rtpSender?.setParameters({ ...parameters, degradationPreference: 'maintain-resolution' });
}
