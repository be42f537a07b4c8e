/** The stats overlay: reads the figures once a second while it is shown, and words them for each tile. */
import type { Peer } from '../peers';
import type { Session } from '../session';
import { StatsReader, formatBitrate, formatLoss, type Figures, type Reading } from '../stats';
import type { Lines, PeerTile, SelfTile } from './tile';

const PERIOD_MS = 1_000;

/** What the overlay shows figures on. */
export interface Tiles {
  self: SelfTile;
  peers: Map<string, PeerTile>;
}

export class StatsOverlay {
  private timer: ReturnType<typeof setInterval> | undefined;
  private recv = new StatsReader('recv');
  private send = new StatsReader('send');

  constructor(
    private readonly session: () => Session | undefined,
    private readonly tiles: Tiles,
  ) {}

  get shown(): boolean {
    return this.timer !== undefined;
  }

  toggle(): boolean {
    if (this.shown) this.close();
    else {
      this.timer = setInterval(() => void this.refresh(), PERIOD_MS);
      void this.refresh();
    }
    return this.shown;
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
    if (send) this.tiles.self.setFigures(ownLines(this.send.read(send), session.home));
    if (!recv) return;
    const reading = this.recv.read(recv);
    for (const [id, tile] of this.tiles.peers) {
      const peer = session.peers.get(id);
      if (peer) tile.setFigures(peerLines(peer, reading));
    }
  }
}

function ownLines(reading: Reading, home: Session['home']): Lines {
  return lines(reading.sources.get('video'), reading.sources.get('audio'), reading.rttMs, home.node, undefined);
}

function peerLines(peer: Peer, reading: Reading): Lines {
  const source = (kind: 'audio' | 'video') => reading.sources.get(peer.sources[kind]?.consumerId ?? '');
  return lines(source('video'), source('audio'), reading.rttMs, peer.node, peer.hops);
}

function lines(
  video: Figures | undefined,
  audio: Figures | undefined,
  rttMs: number | undefined,
  node: string | undefined,
  hops: number | undefined,
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
  if (node) result.push(['Node', node]);
  if (hops !== undefined) result.push(['Hops', hops === 0 ? '0 · same node' : String(hops)]);
  return result.length > 0 ? result : [['State', 'nothing arrives yet']];
}
