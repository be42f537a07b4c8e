/** Figures for the stats overlay, out of the browser's WebRTC statistics. */
import type { Kind } from './devices';

/** What is told of one source. Rates are over the time since the previous reading. */
export interface Figures {
  kind: Kind;
  /** Absent at the first reading. */
  bitrateBps?: number;
  /** Share of packets lost, 0 to 1, after repair. */
  loss: number;
  width?: number;
  height?: number;
  framesPerSecond?: number;
  codec?: string;
}

/** One reading of a transport. */
export interface Reading {
  /** Round trip between this browser and its node, in ms. */
  rttMs?: number;
  /** By what it goes: UDP, TCP, or either to a TURN server. */
  path?: string;
  /** By consumer id (receiving) or the id of the track that is sent. */
  sources: Map<string, Figures>;
}

interface Counters {
  at: number;
  bytes: number;
  packets: number;
  lost: number;
}

type Entry = Record<string, unknown> & { id: string; type: string; timestamp: number; kind?: Kind };

/** Turns the cumulative counters of one transport's reports into rates. */
export class StatsReader {
  private previous = new Map<string, Counters>();

  constructor(private readonly direction: 'recv' | 'send') {}

  read(report: RTCStatsReport): Reading {
    const entries = entriesOf(report);
    const reading: Reading = { sources: new Map() };
    const seen = new Map<string, Counters>();
    for (const entry of entries.values()) {
      if (entry.type === (this.direction === 'recv' ? 'inbound-rtp' : 'outbound-rtp')) this.source(entry, entries, reading, seen);
    }
    const pair = pairInUse(entries);
    const rtt = pair?.['currentRoundTripTime'];
    if (typeof rtt === 'number') reading.rttMs = rtt * 1_000;
    const path = pathOf(entries.get(String(pair?.['localCandidateId'])));
    if (path) reading.path = path;
    this.previous = seen;
    return reading;
  }

  private source(entry: Entry, entries: Map<string, Entry>, reading: Reading, seen: Map<string, Counters>): void {
    // mediasoup-client also receives a stream that only probes for bandwidth.
    if (!entry.kind || entry['mid'] === 'probator') return;
    const recv = this.direction === 'recv';
    const track = recv ? entry : entries.get(String(entry['mediaSourceId']));
    if (!track) return;
    const name = String(track['trackIdentifier']);
    const remote = recv ? undefined : entries.get(String(entry['remoteId']));
    const now: Counters = {
      at: entry.timestamp,
      bytes: number(entry[recv ? 'bytesReceived' : 'bytesSent']),
      packets: number(entry[recv ? 'packetsReceived' : 'packetsSent']),
      lost: number((remote ?? entry)['packetsLost']),
    };
    const before = this.previous.get(entry.id) ?? now;
    seen.set(entry.id, now);
    const codec = entries.get(String(entry['codecId']))?.['mimeType'];
    // An encoding that is not sent any more keeps the size that it had.
    const picture: Partial<Entry> = entry['active'] === false ? {} : entry;
    const { frameWidth: width, frameHeight: height, framesPerSecond } = picture;
    const figures: Figures = {
      kind: entry.kind,
      ...(now.at > before.at && { bitrateBps: ((now.bytes - before.bytes) * 8_000) / (now.at - before.at) }),
      loss: lossBetween(before, now, recv),
      ...(typeof width === 'number' && typeof height === 'number' && { width, height }),
      ...(entry.kind === 'video' && typeof framesPerSecond === 'number' && { framesPerSecond }),
      ...(typeof codec === 'string' && { codec: codec.replace(/^(audio|video)\//, '') }),
    };
    const others = reading.sources.get(name);
    reading.sources.set(name, others ? together(others, figures) : figures);
  }
}

/** Whether media go straight to the node, or nowhere yet. */
export function isDirect(report: RTCStatsReport): boolean {
  const entries = entriesOf(report);
  const path = pathOf(entries.get(String(pairInUse(entries)?.['localCandidateId'])));
  return path === undefined || path === 'UDP';
}

function entriesOf(report: RTCStatsReport): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  report.forEach((entry: Entry) => entries.set(entry.id, entry));
  return entries;
}

/** Chromium says which pair it uses; Firefox nominates no other. */
function pairInUse(entries: Map<string, Entry>): Entry | undefined {
  const all = [...entries.values()];
  const transport = all.find(({ type }) => type === 'transport');
  const selected = entries.get(String(transport?.['selectedCandidatePairId']));
  return selected ?? all.find((entry) => entry.type === 'candidate-pair' && entry['nominated']);
}

function pathOf(local: Entry | undefined): string | undefined {
  if (!local) return undefined;
  const [protocol, relayProtocol] = [local['protocol'], local['relayProtocol']].map((name) => String(name ?? '').toUpperCase());
  return local['candidateType'] === 'relay' ? `TURN · ${relayProtocol || protocol}` : protocol;
}

/** Two encodings of one picture: it is as large as the larger one. */
function together(a: Figures, b: Figures): Figures {
  const larger = (a.width ?? 0) >= (b.width ?? 0) ? { ...b, ...a } : { ...a, ...b };
  const rates = [a.bitrateBps, b.bitrateBps].filter((rate) => rate !== undefined);
  return {
    ...larger,
    ...(rates.length > 0 && { bitrateBps: rates.reduce((sum, rate) => sum + rate, 0) }),
    loss: Math.max(a.loss, b.loss),
  };
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function lossBetween(before: Counters, now: Counters, recv: boolean): number {
  const lost = Math.max(0, now.lost - before.lost);
  const packets = Math.max(0, now.packets - before.packets);
  const expected = recv ? packets + lost : packets;
  return expected > 0 ? Math.min(1, lost / expected) : 0;
}

export function formatBitrate(bps: number | undefined): string {
  if (bps === undefined) return '…';
  if (bps >= 1_000_000) return `${(bps / 1_000_000).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1_000)} kbit/s`;
}

export function formatLoss(loss: number): string {
  const percent = loss * 100;
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}
