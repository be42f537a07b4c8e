/** The stats overlay: reads the figures once a second while it is shown, and words them for each tile. */
import { layerName } from '../layers';
import type { Incoming, Peer } from '../peers';
import type { Outgoing } from '../publisher';
import type { Session } from '../session';
import { StatsReader, formatBitrate, formatLoss, type Figures, type Reading } from '../stats';
import type { SelfTile } from './own-tiles';
import type { PeerTile } from './peer-tile';
import type { Lines } from './tile';

const PERIOD_MS = 1_000;

/** What the overlay shows figures on. */
export interface Tiles {
  self: SelfTile;
  peers: ReadonlyMap<string, PeerTile>;
}

export class StatsOverlay {
  private timer: ReturnType<typeof setInterval> | undefined;
  private recv = new StatsReader('recv');
  private send = new StatsReader('send');

  constructor(
    private readonly session: () => Session | undefined,
    private readonly tiles: Tiles,
    private readonly outgoing: Outgoing,
  ) {}

  get shown(): boolean {
    return this.timer !== undefined;
  }

  toggle(): void {
    if (this.shown) return this.close();
    this.timer = setInterval(() => void this.refresh(), PERIOD_MS);
    void this.refresh();
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.tiles.self.setFigures(undefined);
    for (const tile of this.tiles.peers.values()) tile.setFigures(undefined);
  }

  private async refresh(): Promise<void> {
    const session = this.session();
    if (!session) return;
    const { recv, send } = await session.stats();
    if (!this.shown) return;
    if (send) this.tiles.self.setFigures(this.ownLines(this.send.read(send), session.home));
    if (!recv) return;
    const reading = this.recv.read(recv);
    for (const tile of this.tiles.peers.values()) {
      const peer = session.peers.get(tile.peerId);
      if (peer) tile.setFigures(peerLines(peer, tile.source, reading));
    }
  }

  private ownLines(reading: Reading, home: Session['home']): Lines {
    const { tracks } = this.outgoing.media;
    const figures = (kind: 'audio' | 'video') => reading.sources.get(tracks[kind]?.id ?? '');
    return lines(figures('video'), figures('audio'), reading, home.node);
  }
}

function peerLines(peer: Peer, source: PeerTile['source'], reading: Reading): Lines {
  const figures = (incoming: Incoming | undefined) => reading.sources.get(incoming?.consumerId ?? '');
  const picture = peer.sources[source];
  const sound = source === 'video' ? peer.sources.audio : undefined;
  const result = lines(figures(picture), figures(sound), reading, peer.node, peer.hops);
  if (picture && picture.spatialLayers > 1 && typeof picture.spatialLayer === 'number') {
    result.push(['Quality', layerName(picture.spatialLayer, picture.spatialLayers)]);
  }
  return result;
}

function lines(
  video: Figures | undefined,
  audio: Figures | undefined,
  { rttMs, path }: Reading,
  node: string | undefined,
  hops?: number,
): Lines {
  const result: Lines = [];
  if (video) {
    const size = video.width ? `${video.width} × ${video.height ?? 0}` : 'no picture';
    result.push(['Picture', `${size} · ${Math.round(video.framesPerSecond ?? 0)} fps`]);
    result.push(['Video', [formatBitrate(video.bitrateBps), video.codec].filter(Boolean).join(' · ')]);
  }
  if (audio) result.push(['Audio', [formatBitrate(audio.bitrateBps), audio.codec].filter(Boolean).join(' · ')]);
  if (video ?? audio) result.push(['Loss', formatLoss(Math.max(video?.loss ?? 0, audio?.loss ?? 0))]);
  if (rttMs !== undefined) result.push(['RTT', `${rttMs < 10 ? rttMs.toFixed(1) : Math.round(rttMs)} ms`]);
  if (path) result.push(['Path', path]);
  if (node) result.push(['Node', node]);
  if (hops !== undefined) result.push(['Hops', hops === 0 ? '0 · same node' : String(hops)]);
  return result.length > 0 ? result : [['State', 'nothing arrives yet']];
}
