/** Tables of everything, and the scenario as it ran. */
import { h } from '@sluice/web-kit/ui/dom';
import { letter } from '../charts';
import { type Mark, marks } from '../events';
import { NOTHING, digits, format } from '../format';
import { type Kind, bitsPerStream, dataLoss, framesPerStream, percent, quantile, sum } from '../measures';
import type { Durations, GroupSample, Results } from '../results';
import { type Cell, figures, rest, table, words } from './table';

/** What happened in all runs. */
export function eventTable(runs: Results[]): HTMLElement | undefined {
  const all = marks(runs);
  if (all.length === 0) return undefined;
  const where = ({ runs: those }: Mark) => (runs.length > 1 ? [those.map(letter).join(', ')] : []);
  const rows = all.map((mark) => [String(mark.number), `${digits(mark.at)} s`, mark.what, ...where(mark)]);
  return table('Events', [words('No.'), figures('At'), rest('What'), ...(runs.length > 1 ? [words('Runs')] : [])], rows);
}

/** Tables about one run. */
export function runDetails(run: Results): HTMLElement[] {
  const tables = [receivedTable(run), sentTable(run), dataTable(run), nodeTable(run), joinTable(run), generatorTable(run)];
  const toml = h('details', { class: 'toml' }, h('summary', {}, 'The scenario as it ran'), h('pre', {}, run.scenario.toml));
  return [...tables.filter((table) => table !== undefined), toml];
}

const KINDS: Kind[] = ['audio', 'video'];

function rowsOfGroups(run: Results, row: (group: GroupSample, kind: Kind) => Cell[] | undefined): Cell[][] {
  return run.steady.flatMap((sample) => {
    const group = run.groups[sample.group];
    if (!group) return [];
    return KINDS.flatMap((kind) => {
      const cells = row(sample, kind);
      return cells ? [[group.users, `${group.node} (${group.region})`, kind, ...cells]] : [];
    });
  });
}

function receivedTable(run: Results): HTMLElement | undefined {
  const rows = rowsOfGroups(run, (sample, kind) => {
    const media = sample[kind];
    if (media.streams === 0 && media.expected === 0) return undefined;
    return [
      count(media.streams),
      format('bits_per_second', bitsPerStream([sample], (group) => group[kind])),
      kind === 'video' ? figure(framesPerStream([sample], (group) => group[kind])) : NOTHING,
      ...[media.delay.p50_ms, media.delay.p99_ms, media.delay.max_ms].map((ms) => time(media.delay, ms)),
      digits(media.jitter_ms),
      ...[media.missing, media.lost].map((packets) => figure(percent(packets, media.expected))),
      ...[media.freezes_200ms, media.freezes_500ms].map(count),
      ...[media.first_frame.p50_ms, media.first_frame.p99_ms].map((ms) => time(media.first_frame, ms)),
    ];
  });
  const columns = [
    ...['Users', 'Node', 'Kind'].map(words),
    ...['Streams', 'Bitrate', 'Frames/s', 'Delay p50', 'Delay p99', 'Delay max', 'Jitter', 'Loss', 'After repair'].map(figures),
    ...['Gaps > 200', 'Gaps > 500', 'First frame p50', 'First frame p99'].map(figures),
  ];
  return rows.length > 0 ? table('Received after the ramp, by stream; times in ms, loss in %', columns, rows) : undefined;
}

function sentTable(run: Results): HTMLElement | undefined {
  const rows = rowsOfGroups(run, (sample, kind) => {
    const media = kind === 'audio' ? sample.sent_audio : sample.sent_video;
    if (media.streams === 0) return undefined;
    const allowed = media.allowed_bits_per_second;
    return [
      count(media.streams),
      format('bits_per_second', bitsPerStream([sample], () => media)),
      kind === 'video' ? figure(framesPerStream([sample], () => media)) : NOTHING,
      allowed > 0 ? format('bits_per_second', allowed) : NOTHING,
      ...[media.key_frames, media.key_frame_requests, media.nacked, media.retransmitted].map(count),
    ];
  });
  const columns = [
    ...['Users', 'Node', 'Kind'].map(words),
    ...['Streams', 'Bitrate', 'Frames/s', 'Allowed', 'Key frames', 'Asked for', 'Packets asked again', 'Sent again'].map(figures),
  ];
  return rows.length > 0 ? table('Sent after the ramp, by stream', columns, rows) : undefined;
}

function dataTable(run: Results): HTMLElement | undefined {
  const rows = run.steady.flatMap((sample) => {
    const group = run.groups[sample.group];
    const { data, sent_data: sent } = sample;
    if (!group || (data.channels === 0 && data.expected === 0 && sent.channels === 0)) return [];
    return [[
      group.users,
      `${group.node} (${group.region})`,
      ...[data.channels, data.messages].map(count),
      ...[data.delay.p50_ms, data.delay.p99_ms, data.delay.max_ms].map((ms) => time(data.delay, ms)),
      figure(dataLoss([sample])),
      ...[data.duplicates, data.out_of_order, data.violations, sent.channels, sent.messages, sent.refused].map(count),
    ]];
  });
  const columns = [
    ...['Users', 'Node'].map(words),
    ...['Channels', 'Messages', 'Delay p50', 'Delay p99', 'Delay max', 'Lost', 'Twice', 'Out of order', 'Violations'].map(figures),
    ...['Channels sent', 'Messages sent', 'Refused'].map(figures),
  ];
  return rows.length > 0 ? table('Data channels after the ramp; times in ms, loss in %', columns, rows) : undefined;
}

function nodeTable(run: Results): HTMLElement | undefined {
  const rows = run.target.nodes.flatMap((node, index) => {
    const totals = run.nodes[index];
    if (!totals) return [];
    const reasons = Object.entries(totals.drops).filter(([, packets]) => packets > 0);
    return [[
      node.name,
      node.region,
      node.url,
      totals.cpu > 0 ? digits(totals.cpu) : NOTHING,
      format('count', totals.packets_per_cpu_second),
      totals.max_resident_bytes > 0 ? format('bytes', totals.max_resident_bytes) : NOTHING,
      count(sum(reasons, ([, packets]) => packets)),
      reasons.map(([reason, packets]) => `${reason}: ${count(packets)}`).join(', ') || NOTHING,
    ]];
  });
  const columns = [
    ...['Node', 'Region', 'Address'].map(words),
    ...['CPU', 'Packets per CPU-second', 'Largest memory', 'Drops'].map(figures),
    rest('By reason'),
  ];
  return rows.length > 0 ? table('Nodes after the ramp', columns, rows) : undefined;
}

function joinTable({ joins }: Results): HTMLElement {
  const times = (['p50_ms', 'p90_ms', 'p99_ms', 'max_ms'] as const).map((each) => format('ms', quantile(joins.time, each)));
  const rows = [
    ['succeeded', count(joins.succeeded), ...times],
    ...Object.entries(joins.failed).map(([reason, failed]) => [`failed: ${reason}`, count(failed), '', '', '', '']),
  ];
  const columns = [words('Joins'), ...['Number', 'p50', 'p90', 'p99', 'Max'].map(figures)];
  return table('Joins of the whole run', columns, rows);
}

function generatorTable({ generator }: Results): HTMLElement {
  const opened = generator.open_every > 1 ? `1 of ${count(generator.open_every)}` : 'all';
  const drops = [generator.receive_drops, generator.send_drops].map(count);
  const columns = [words('Packets opened'), ...['CPU', 'Lag p99', 'Dropped receiving', 'Dropped sending'].map(figures)];
  return table('Load generator', columns, [[opened, digits(generator.cpu), format('ms', generator.lag_p99_ms), ...drops]]);
}

function count(number: number): string {
  return format('count', number);
}

function figure(value: number | null): string {
  return value === null ? NOTHING : digits(value);
}

function time(of: Durations, ms: number): string {
  return of.count > 0 ? digits(ms) : NOTHING;
}
