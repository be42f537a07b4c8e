/** Clients of mediasoup-demo's version 3 without a browser: libdatachannel, which has usrsctp's SCTP, and data channels alone. */
import { eventually } from '@sluice/web-kit/harness/eventually';
import { PeerConnection, type DataChannel, type DataChannelInitConfig } from 'node-datachannel';
import protoo from 'protoo-client';

const SCTP_CAPABILITIES = { numStreams: { OS: 1024, MIS: 1024 } };

/** What comes over the wire: what the server said is looked at by the tests. */
type Answer = any;

export type Message = string | Buffer;

/** How messages are to arrive: all and in their order, if nothing is said. */
export type Reliability = Pick<DataChannelInitConfig, 'unordered' | 'maxRetransmits' | 'maxPacketLifeTime'>;

/** One WebRTC transport, which has data channels that are negotiated by signalling. */
class Transport {
  private readonly connection: PeerConnection;
  private connected: Promise<void> | undefined;

  constructor(
    name: string,
    private readonly parameters: Answer,
    private readonly connect: (dtlsParameters: unknown) => Promise<unknown>,
  ) {
    this.connection = new PeerConnection(name, { iceServers: [], disableAutoNegotiation: true });
  }

  get id(): string {
    return this.parameters.id;
  }

  get maxMessageSize(): number {
    return this.parameters.sctpParameters.maxMessageSize;
  }

  /** A data channel; with the first the transport connects. */
  async open(label: string, id: number, reliability: Reliability): Promise<DataChannel> {
    const channel = this.connection.createDataChannel(label, { negotiated: true, id, ...reliability });
    await (this.connected ??= this.negotiate());
    return channel;
  }

  close(): void {
    this.connection.close();
  }

  private async negotiate(): Promise<void> {
    this.connection.setLocalDescription('offer');
    const offer = this.connection.localDescription()?.sdp ?? '';
    const [, algorithm, value] = /^a=fingerprint:(\S+) (\S+)/m.exec(offer) ?? [];
    await this.connect({ role: 'client', fingerprints: [{ algorithm, value }] });
    this.connection.setRemoteDescription(this.answer(), 'answer');
  }

  /** The server's parameters as a session description of an ICE-lite peer (RFC 8841). */
  private answer(): string {
    const { iceParameters, iceCandidates, dtlsParameters, sctpParameters } = this.parameters;
    const { value } = dtlsParameters.fingerprints.find(({ algorithm }: Answer) => algorithm === 'sha-256');
    const candidates = iceCandidates.map(
      ({ foundation, protocol, priority, ip, port, type }: Answer) =>
        `a=candidate:${foundation} 1 ${protocol} ${priority} ${ip} ${port} typ ${type}`,
    );
    const lines = [
      'v=0',
      'o=- 0 0 IN IP4 127.0.0.1',
      's=-',
      't=0 0',
      'a=ice-lite',
      'a=group:BUNDLE 0',
      'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
      'c=IN IP4 0.0.0.0',
      'a=mid:0',
      `a=ice-ufrag:${iceParameters.usernameFragment}`,
      `a=ice-pwd:${iceParameters.password}`,
      `a=fingerprint:sha-256 ${value}`,
      'a=setup:passive',
      `a=sctp-port:${sctpParameters.port}`,
      `a=max-message-size:${sctpParameters.maxMessageSize}`,
      ...candidates,
      'a=end-of-candidates',
    ];
    return lines.map((line) => `${line}\r\n`).join('');
  }
}

/** What a client hears of another's channel. */
export class Heard {
  readonly messages: Message[] = [];
  /** Whether the server told of its end by signalling. */
  told = false;
  /** Whether SCTP did (RFC 6525). */
  reset = false;

  constructor(
    readonly peerId: string,
    readonly label: string,
    private readonly channel: DataChannel,
  ) {
    channel.onMessage((message) => this.messages.push(typeof message === 'string' ? message : Buffer.from(message as Buffer)));
    channel.onClosed(() => (this.reset = true));
  }

  /** Ends it, by SCTP alone. */
  close(): void {
    this.channel.close();
  }
}

export class LibdatachannelClient {
  /** By the data consumer's id. */
  private readonly heard = new Map<string, Heard>();
  private nextStream = 0;
  private send!: Transport;
  private receive!: Transport;

  private constructor(
    readonly name: string,
    private readonly protoo: protoo.Peer,
  ) {
    this.protoo.on('request', (request: Answer, accept: () => void, reject: (error: Error) => void) => {
      this.consume(request).then(accept, reject);
    });
    this.protoo.on('notification', ({ method, data }: Answer) => {
      const heard = this.heard.get(data.dataConsumerId);
      if (method === 'dataConsumerClosed' && heard) heard.told = true;
    });
  }

  /** Joins a room at a node, `http://host:port`. */
  static async join(name: string, node: string, room: string): Promise<LibdatachannelClient> {
    const query = new URLSearchParams({ roomId: room, peerId: name.toLowerCase() });
    const transport = new protoo.WebSocketTransport(`${node.replace('http', 'ws')}/?${query}`);
    const client = new LibdatachannelClient(name, new protoo.Peer(transport));
    await new Promise((resolve, reject) => {
      client.protoo.on('open', resolve);
      client.protoo.on('failed', () => reject(new Error('the WebSocket failed')));
    });
    client.send = await client.createTransport('producing');
    client.receive = await client.createTransport('consuming');
    const device = { flag: 'libdatachannel', name: 'libdatachannel', version: '1' };
    await client.protoo.request('join', { displayName: name, device, sctpCapabilities: SCTP_CAPABILITIES });
    return client;
  }

  /** Sends by a new channel, which is open. */
  async produce(label: string, reliability: Reliability = {}): Promise<DataChannel> {
    const streamId = this.nextStream++;
    const channel = await this.send.open(label, streamId, reliability);
    const { unordered, ...limits } = reliability;
    const sctpStreamParameters = { streamId, ordered: !unordered, ...limits };
    await this.protoo.request('produceData', { transportId: this.send.id, sctpStreamParameters, label, protocol: '', appData: {} });
    await eventually(`${this.name} can write on ${label}`, () => channel.isOpen());
    return channel;
  }

  /** The longest message that the server takes. */
  get maxMessageSize(): number {
    return this.send.maxMessageSize;
  }

  /** Waits until what a peer sends by a channel can arrive. */
  hears(peerId: string, label: string): Promise<Heard> {
    const isIt = (heard: Heard) => heard.peerId === peerId && heard.label === label;
    return eventually(`${this.name} hears ${peerId}'s ${label}`, () => [...this.heard.values()].find(isIt));
  }

  /** What the peer is called, among clients. */
  get id(): string {
    return this.name.toLowerCase();
  }

  leave(): void {
    this.protoo.close();
    this.send.close();
    this.receive.close();
  }

  private async createTransport(direction: 'producing' | 'consuming'): Promise<Transport> {
    const parameters = await this.protoo.request('createWebRtcTransport', {
      forceTcp: false,
      producing: direction === 'producing',
      consuming: direction === 'consuming',
      sctpCapabilities: SCTP_CAPABILITIES,
    });
    return new Transport(`${this.name}, ${direction}`, parameters, (dtlsParameters) =>
      this.protoo.request('connectWebRtcTransport', { transportId: parameters.id, dtlsParameters }),
    );
  }

  private async consume({ method, data }: { method: string; data: Answer }): Promise<void> {
    if (method !== 'newDataConsumer') throw new Error('unknown request');
    const { peerId, id, label, sctpStreamParameters } = data;
    const { streamId, ordered, maxRetransmits, maxPacketLifeTime } = sctpStreamParameters;
    const reliability = {
      unordered: ordered === false,
      ...(maxRetransmits !== undefined && { maxRetransmits }),
      ...(maxPacketLifeTime !== undefined && { maxPacketLifeTime }),
    };
    this.heard.set(id, new Heard(peerId, label, await this.receive.open(label, streamId, reliability)));
  }
}
