/** Sends the user's own tracks, and keeps the server's producers in step with what the user switches on and off. */
import type { Device, types } from 'mediasoup-client';
import { SOURCES, type AppData, type OwnProducer, type Source } from './demo-v3';
import type { LocalMedia } from './devices';
import { CAMERA_ENCODINGS, SCREEN_ENCODINGS, sendWanted } from './encodings';
import { Encryption } from './encryption';
import { ConnectionLost } from './protoo';
import type { Screen } from './screen';
import type { Signalling } from './signalling';

/** Where Chromium's bandwidth estimate starts; from its own default of 300 kbit/s a clear picture takes many seconds. */
const START_BITRATE_KBPS = 1_000;

const NAMES: Record<Source, string> = { audio: 'audio', video: 'video', screensharing: 'screen' };

/** What is sent, and how. */
export interface Outgoing {
  media: LocalMedia;
  screen: Screen;
  encryption: Encryption;
}

interface Sending {
  producer: types.Producer;
  /** What it is encrypted with. */
  passphrase: string | undefined;
}

export class Publisher {
  private readonly sending: Partial<Record<Source, Sending>> = {};
  private readonly queues: Record<Source, Promise<void>>;
  /** Producers that whoever runs the room muted: they may be told of before they are known here. */
  private readonly muted = new Set<string>();
  /** Which encodings of a producer are received; so may these. */
  private readonly wanted = new Map<string, boolean[]>();
  private readonly subscriptions: (() => void)[];
  private closed = false;

  constructor(
    private readonly device: Device,
    private readonly transport: types.Transport,
    private readonly outgoing: Outgoing,
    private readonly signalling: Pick<Signalling, 'request'>,
    private readonly report: (text: string) => void,
  ) {
    const idle = Promise.resolve();
    this.queues = { audio: idle, video: idle, screensharing: idle };
    const { media, screen, encryption } = outgoing;
    this.subscriptions = [
      media.on('change', (kind) => this.follow(kind)),
      screen.on('change', () => this.follow('screensharing')),
      encryption.on('change', () => this.beginAnew()),
    ];
    this.followAll();
  }

  close(): void {
    this.closed = true;
    for (const unsubscribe of this.subscriptions) unsubscribe();
  }

  /** Whoever runs the room muted a producer, or lets it be heard again. */
  setMuted(producerId: string, muted: boolean): void {
    if (muted) this.muted.add(producerId);
    else this.muted.delete(producerId);
    this.followProducer(producerId);
  }

  /** These encodings of a producer are received by somebody. */
  setWanted(producerId: string, wanted: boolean[]): void {
    this.wanted.set(producerId, wanted);
    this.followProducer(producerId);
  }

  /** After an interruption these are what the server has: what else there should be is sent anew, and no others stay. */
  reconcile(producers: OwnProducer[]): void {
    const ours = new Set(Object.values(this.sending).map(({ producer }) => producer.id));
    const known = producers.map(({ id }) => id);
    this.muted.clear();
    // What was told of them meanwhile is lost: until there is news, everything may be wanted.
    this.wanted.clear();
    for (const { id, muted } of producers) if (muted) this.muted.add(id);
    // The answer that told of it was lost.
    const unknown = known.filter((id) => !ours.has(id));
    for (const id of unknown) this.closeAtServer(id);
    for (const source of SOURCES) {
      const producer = this.sending[source]?.producer;
      if (producer && !known.includes(producer.id)) this.forget(source, producer);
      this.follow(source);
    }
  }

  /**
   * What was sent with another passphrase ends. All of it ends before anything begins: Chromium names no MID in the packets of
   * a simulcast that takes the place of another one after a new media section was added, and the server could not tell whose
   * they are.
   */
  private beginAnew(): void {
    for (const source of SOURCES) {
      const { producer } = this.sending[source] ?? {};
      if (producer && !this.muted.has(producer.id)) this.stop(source, producer);
    }
    this.followAll();
  }

  private followAll(): void {
    for (const source of SOURCES) this.follow(source);
  }

  private followProducer(id: string): void {
    for (const source of SOURCES) if (this.sending[source]?.producer.id === id) this.follow(source);
  }

  /** Changes of a source are carried out one after the other; each looks at what is wanted when its turn comes. */
  private follow(source: Source): void {
    this.queues[source] = this.queues[source].then(async () => {
      try {
        if (!this.closed) await this.apply(source);
      } catch (error) {
        // Once the connection is back, this is done again.
        const later = error instanceof ConnectionLost;
        if (!this.closed && !later) this.report(`Your ${NAMES[source]} cannot be sent: ${(error as Error).message}`);
      }
    });
  }

  private async apply(source: Source): Promise<void> {
    const track = this.trackOf(source);
    const { producer, passphrase } = this.sending[source] ?? {};
    const muted = producer !== undefined && this.muted.has(producer.id);
    if (muted && track) this.report(`Your ${NAMES[source]} was muted by whoever runs the room`);
    if (!producer) {
      if (track) await this.produce(source, track);
    } else if (track && !muted) {
      if (passphrase !== this.outgoing.encryption.passphrase) {
        this.stop(source, producer);
        return this.produce(source, track);
      }
      if (producer.track !== track) await producer.replaceTrack({ track });
      if (producer.rtpSender) await sendWanted(producer.rtpSender, this.wanted.get(producer.id) ?? []);
      if (!producer.paused) return;
      producer.resume();
      await this.signalling.request('resumeProducer', { producerId: producer.id });
    } else if (source === 'screensharing') {
      this.stop(source, producer);
    } else if (!producer.paused) {
      producer.pause();
      await this.signalling.request('pauseProducer', { producerId: producer.id });
    }
  }

  /** What is to be sent. */
  private trackOf(source: Source): MediaStreamTrack | undefined {
    const { media, screen } = this.outgoing;
    if (source === 'screensharing') return screen.track;
    return media.enabled[source] ? media.tracks[source] : undefined;
  }

  private async produce(source: Source, track: MediaStreamTrack): Promise<void> {
    const kind = source === 'audio' ? 'audio' : 'video';
    if (!this.device.canProduce(kind)) return;
    track.enabled = true;
    const { encryption } = this.outgoing;
    const { passphrase } = encryption;
    const encrypted = passphrase !== undefined;
    const appData: AppData = { source, ...(encrypted && { encrypted }) };
    const producer = await this.transport.produce({
      ...optionsFor(source, this.device, encrypted),
      track,
      stopTracks: false,
      appData: { ...appData },
      ...(encrypted && { onRtpSender: (sender: RTCRtpSender) => encryption.seal(sender, kind) }),
    });
    this.sending[source] = { producer, passphrase };
    // Something may have changed meanwhile.
    this.follow(source);
  }

  private stop(source: Source, producer: types.Producer): void {
    this.forget(source, producer);
    this.closeAtServer(producer.id);
  }

  private forget(source: Source, producer: types.Producer): void {
    producer.close();
    delete this.sending[source];
    this.muted.delete(producer.id);
    this.wanted.delete(producer.id);
  }

  /** It may end by itself before it is asked to. */
  private closeAtServer(producerId: string): void {
    this.signalling.request('closeProducer', { producerId }).catch(() => {});
  }
}

/** How a source is sent. Throws if it cannot be encrypted as it should. */
function optionsFor(source: Source, device: Device, encrypted: boolean): types.ProducerOptions {
  if (encrypted && !Encryption.supported) throw new Error('this browser cannot encrypt it');
  if (source === 'audio') return { codecOptions: { opusDtx: true, opusFec: true, opusStereo: false } };
  const vp8 = device.sendRtpCapabilities.codecs?.find((codec) => codec.mimeType.toLowerCase() === 'video/vp8');
  if (encrypted && !vp8) throw new Error('only VP8 can be encrypted, which the server does not take');
  return {
    encodings: [...(source === 'video' ? CAMERA_ENCODINGS : SCREEN_ENCODINGS)],
    codecOptions: { videoGoogleStartBitrate: START_BITRATE_KBPS },
    ...(vp8 && { codec: vp8 }),
  };
}

