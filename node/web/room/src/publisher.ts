/** Sends the user's own tracks, and keeps the server's producers in step with what the user switches on and off. */
import type { Device, types } from 'mediasoup-client';
import type { OwnProducer } from './demo-v3';
import type { Kind, LocalMedia } from './devices';
import { ConnectionLost } from './protoo';
import type { Signalling } from './signalling';

/** Where Chromium's bandwidth estimate starts; from its own default of 300 kbit/s a clear picture takes many seconds. */
const START_BITRATE_KBPS = 1_000;

/** Enough for 720p with a good picture. */
const MAX_VIDEO_BITRATE_BPS = 2_000_000;

export class Publisher {
  private readonly producers: Partial<Record<Kind, types.Producer>> = {};
  private readonly queues: Record<Kind, Promise<void>> = { audio: Promise.resolve(), video: Promise.resolve() };
  /** Producers that whoever runs the room muted: they may be told of before they are known here. */
  private readonly muted = new Set<string>();
  private readonly unsubscribe: () => void;
  private closed = false;

  constructor(
    private readonly device: Device,
    private readonly transport: types.Transport,
    private readonly media: LocalMedia,
    private readonly signalling: Pick<Signalling, 'request'>,
    private readonly report: (text: string) => void,
  ) {
    this.unsubscribe = media.on('change', (kind) => this.follow(kind));
    this.follow('audio');
    this.follow('video');
  }

  close(): void {
    this.closed = true;
    this.unsubscribe();
  }

  /** Whoever runs the room muted a producer, or lets it be heard again. */
  setMuted(producerId: string, muted: boolean): void {
    if (muted) this.muted.add(producerId);
    else this.muted.delete(producerId);
    for (const kind of ['audio', 'video'] as const) {
      if (this.producers[kind]?.id === producerId) this.follow(kind);
    }
  }

  /** After an interruption these are what the server has: what else there should be is sent anew, and no others stay. */
  reconcile(producers: OwnProducer[]): void {
    const ours = new Set(Object.values(this.producers).map(({ id }) => id));
    const known = producers.map(({ id }) => id);
    this.muted.clear();
    for (const { id, muted } of producers) if (muted) this.muted.add(id);
    // The answer that told of it was lost.
    const unknown = known.filter((id) => !ours.has(id));
    // It may end by itself before it is asked to.
    for (const producerId of unknown) this.signalling.request('closeProducer', { producerId }).catch(() => {});
    for (const kind of ['audio', 'video'] as const) {
      const producer = this.producers[kind];
      if (producer && !known.includes(producer.id)) {
        producer.close();
        delete this.producers[kind];
      }
      this.follow(kind);
    }
  }

  /** Changes of a kind are carried out one after the other; each looks at what is wanted when its turn comes. */
  private follow(kind: Kind): void {
    this.queues[kind] = this.queues[kind].then(async () => {
      try {
        if (!this.closed) await this.apply(kind);
      } catch (error) {
        // Once the connection is back, this is done again.
        const later = error instanceof ConnectionLost;
        if (!this.closed && !later) this.report(`Your ${kind} cannot be sent: ${(error as Error).message}`);
      }
    });
  }

  private async apply(kind: Kind): Promise<void> {
    const track = this.media.tracks[kind];
    const wanted = this.media.enabled[kind] && track !== undefined;
    const producer = this.producers[kind];
    const muted = producer !== undefined && this.muted.has(producer.id);
    if (muted && wanted) this.report(`Your ${kind} was muted by whoever runs the room`);
    if (!producer) {
      if (wanted) await this.produce(kind, track);
    } else if (wanted && !muted) {
      if (producer.track !== track) await producer.replaceTrack({ track });
      if (!producer.paused) return;
      producer.resume();
      await this.signalling.request('resumeProducer', { producerId: producer.id });
    } else if (!producer.paused) {
      producer.pause();
      await this.signalling.request('pauseProducer', { producerId: producer.id });
    }
  }

  private async produce(kind: Kind, track: MediaStreamTrack): Promise<void> {
    if (!this.device.canProduce(kind)) return;
    track.enabled = true;
    const options: types.ProducerOptions = kind === 'audio' ? audioOptions() : videoOptions(this.device);
    this.producers[kind] = await this.transport.produce({ ...options, track, stopTracks: false });
    // The user may have switched it off meanwhile.
    this.follow(kind);
  }
}

function audioOptions(): types.ProducerOptions {
  return { codecOptions: { opusDtx: true, opusFec: true, opusStereo: false } };
}

function videoOptions(device: Device): types.ProducerOptions {
  const vp8 = device.sendRtpCapabilities.codecs?.find((codec) => codec.mimeType.toLowerCase() === 'video/vp8');
  return {
    // Temporal layers let the mesh thin out a stream that a link cannot carry whole.
    encodings: [{ maxBitrate: MAX_VIDEO_BITRATE_BPS, scalabilityMode: 'L1T3' }],
    codecOptions: { videoGoogleStartBitrate: START_BITRATE_KBPS },
    ...(vp8 && { codec: vp8 }),
  };
}
