/** What each chart shows: pure data, out of the runs and what the reader chose. */
import type { Unit } from './format';
import {
  type Kind,
  type Percentile,
  bitsPerSecond,
  bitsPerStream,
  dataLoss,
  dataRate,
  framesPerStream,
  has,
  hasData,
  loss,
  ofNodes,
  quantile,
  received,
  sent,
  videoRate,
  worst,
} from './measures';
import type { Durations, GroupSample, NodeSample, Results, Sample } from './results';
import { type Selection, groupName, samplesOf, selected } from './selection';

/** What the reader chose. */
export interface View {
  selection: Selection;
  percentile: Percentile;
}

export interface Line {
  label: string;
  /** Which of the palette's colours. */
  color: number;
  dashed: boolean;
  /** By time. `null` where there was nothing to measure: a gap. */
  values: (number | null)[];
}

/** Lines over the same times. */
export interface Table {
  /** Seconds since the run's start. */
  times: number[];
  lines: Line[];
}

export interface Chart {
  id: string;
  title: string;
  /** What is seen, in a sentence. */
  note: string;
  unit: Unit;
  /** One of each run. */
  tables: Table[];
  /** Goes from one value to the next in steps. */
  stepped?: boolean;
  /** What the scenario allows at most. */
  limit?: number;
}

export interface Section {
  title: string;
  charts: Chart[];
}

export const PERCENTILES: Record<Percentile, string> = { p50_ms: 'p50', p90_ms: 'p90', p99_ms: 'p99', max_ms: 'largest' };

/** What runs are called when there are several. */
export function letter(index: number): string {
  return index < 26 ? String.fromCharCode(65 + index) : String(index + 1);
}

export function sections(runs: Results[], view: View): Section[] {
  const kinds = (['audio', 'video'] as const).filter((kind) => runs.some((run) => has(run, kind)));
  const video = kinds.includes('video');
  return [
    { title: 'Joining', charts: [users(runs), joinTime(runs), failedJoins(runs)] },
    {
      title: 'Delay and loss',
      charts: [...kinds.map((kind) => streamDelay(runs, view, kind)), ...kinds.map((kind) => lossOf(runs, view, kind)), ...(video ? [freezes(runs, view)] : [])],
    },
    {
      title: 'Bitrate',
      charts: [
        bitrate(runs, view),
        ...kinds.map((kind) => bitratePerStream(runs, view, kind)),
        ...(video ? [frameRate(runs, view)] : []),
      ],
    },
    ...(runs.some(hasData) ? [{ title: 'Data channels', charts: data(runs, view) }] : []),
    { title: 'Nodes', charts: nodes(runs) },
    { title: 'Load generator', charts: generator(runs) },
  ];
}

interface Measure {
  label: string;
  dashed?: boolean;
  of: (sample: Sample, run: Results) => number | null;
}

/**
 * The same measures of every run. Colours tell measures apart if there is one run, runs if there are several; then every
 * second measure is dashed.
 */
function perRun(runs: Results[], measures: Measure[]): Table[] {
  return runs.map((run, index) => ({
    times: times(run),
    lines: measures.map(({ label, dashed = false, of }, at) => ({
      label: runs.length > 1 ? `${letter(index)} ${label}` : label,
      color: runs.length > 1 ? index : at,
      dashed: dashed || (runs.length > 1 && at % 2 === 1),
      values: run.samples.map((sample) => of(sample, run)),
    })),
  }));
}

function times(run: Results): number[] {
  return run.samples.map(({ at_s }) => at_s);
}

/** A measure of the chosen users. */
function chosen(view: View, of: (groups: GroupSample[]) => number | null): Measure['of'] {
  return (sample, run) => of(samplesOf(sample, selected(run, view.selection)));
}

function users(runs: Results[]): Chart {
  return {
    id: 'users',
    title: 'Users',
    note: 'Users that should be in their rooms, and those that are.',
    unit: 'count',
    stepped: true,
    tables: perRun(runs, [
      { label: 'joined', of: (sample) => sample.users_joined },
      { label: 'wanted', dashed: true, of: (sample) => sample.users_wanted },
    ]),
  };
}

function joinTime(runs: Results[]): Chart {
  return {
    id: 'join-time',
    title: 'Join time',
    note: 'From opening the WebSocket to connected media, of the joins of each second.',
    unit: 'ms',
    ...limit(runs, 'join_p99'),
    tables: perRun(runs, [
      { label: 'p99', of: (sample) => quantile(sample.joins, 'p99_ms') },
      { label: 'p50', of: (sample) => quantile(sample.joins, 'p50_ms') },
    ]),
  };
}

function failedJoins(runs: Results[]): Chart {
  return {
    id: 'failed-joins',
    title: 'Failed joins',
    note: 'Joins that failed in each second.',
    unit: 'count',
    tables: perRun(runs, [{ label: 'failed', of: (sample) => sample.joins_failed }]),
  };
}

const NAMES: Record<Kind, string> = { audio: 'Audio', video: 'Video' };

function streamDelay(runs: Results[], view: View, kind: Kind): Chart {
  const chart = { id: `${kind}-delay`, title: `${NAMES[kind]}: one-way delay`, objective: 'delay_p99' };
  return delay(runs, view, chart, (group) => received(group, kind).delay);
}

/** Delays, of which an objective limits the p99. */
function delay(
  runs: Results[],
  view: View,
  { objective, ...head }: { id: string; title: string; objective: string },
  times: (group: GroupSample) => Durations,
): Chart {
  const percentile = PERCENTILES[view.percentile];
  const [run] = runs;
  const groups = run ? selected(run, view.selection) : [];
  const chart = { ...head, unit: 'ms' as const, ...(view.percentile === 'p99_ms' ? limit(runs, objective) : {}) };
  if (runs.length === 1 && groups.length === 1) {
    const of = (percentile: Percentile) => chosen(view, (groups) => worst(groups.map(times), percentile));
    const all = (['p99_ms', 'p90_ms', 'p50_ms'] as const).map((each) => ({ label: PERCENTILES[each], of: of(each) }));
    return { ...chart, note: 'From the publisher’s send to the receive, percentiles of each second.', tables: perRun(runs, all) };
  }
  if (run && runs.length === 1) {
    const note = `From the publisher’s send to the receive, ${percentile} of each group in each second.`;
    return { ...chart, note, tables: [perGroup(run, groups, (group) => quantile(times(group), view.percentile))] };
  }
  const of = chosen(view, (groups) => worst(groups.map(times), view.percentile));
  const note = `From the publisher’s send to the receive, ${percentile} of the worst chosen group in each second.`;
  return { ...chart, note, tables: perRun(runs, [{ label: percentile, of }]) };
}

function perGroup(run: Results, groups: number[], of: (group: GroupSample) => number | null): Table {
  const line = (index: number): Line => {
    const name = run.groups[index];
    const values = run.samples.map(({ groups }) => {
      const sample = groups.find(({ group }) => group === index);
      return sample ? of(sample) : null;
    });
    return { label: name ? groupName(name) : String(index), color: index, dashed: false, values };
  };
  return { times: times(run), lines: groups.map(line) };
}

function lossOf(runs: Results[], view: View, kind: Kind): Chart {
  return {
    id: `${kind}-loss`,
    title: `${NAMES[kind]}: loss`,
    note: 'Packets that were missing when later ones came, and those that retransmission did not bring either.',
    unit: 'percent',
    ...limit(runs, 'residual_loss'),
    tables: perRun(runs, [
      { label: 'after repair', of: chosen(view, (groups) => loss(groups, kind, 'lost')) },
      { label: 'before repair', of: chosen(view, (groups) => loss(groups, kind, 'missing')) },
    ]),
  };
}

function freezes(runs: Results[], view: View): Chart {
  return {
    id: 'freezes',
    title: 'Video: freezes',
    note: 'Gaps between frames, of all streams together, in each second.',
    unit: 'per_second',
    tables: perRun(runs, [
      { label: '> 500 ms', of: chosen(view, (groups) => videoRate(groups, 'freezes_500ms')) },
      { label: '> 200 ms', of: chosen(view, (groups) => videoRate(groups, 'freezes_200ms')) },
    ]),
  };
}

function bitrate(runs: Results[], view: View): Chart {
  const of = (bytes: (group: GroupSample) => number) => chosen(view, (groups) => bitsPerSecond(groups, bytes));
  return {
    id: 'bitrate',
    title: 'All streams together',
    note: 'Payload of audio, video and data that users received and sent.',
    unit: 'bits_per_second',
    tables: perRun(runs, [
      { label: 'received', of: of(({ audio, video, data }) => audio.bytes + video.bytes + data.bytes) },
      { label: 'sent', of: of(({ sent_audio, sent_video, sent_data }) => sent_audio.bytes + sent_video.bytes + sent_data.bytes) },
    ]),
  };
}

function bitratePerStream(runs: Results[], view: View, kind: Kind): Chart {
  return {
    id: `${kind}-bitrate`,
    title: `${NAMES[kind]}: a stream’s bitrate`,
    note: 'Payload of the mean received and the mean sent stream.',
    unit: 'bits_per_second',
    tables: perRun(runs, [
      { label: 'received', of: chosen(view, (groups) => bitsPerStream(groups, (group) => received(group, kind))) },
      { label: 'sent', of: chosen(view, (groups) => bitsPerStream(groups, (group) => sent(group, kind))) },
    ]),
  };
}

function frameRate(runs: Results[], view: View): Chart {
  return {
    id: 'frame-rate',
    title: 'Video: a stream’s frame rate',
    note: 'Complete frames per second of the mean received and the mean sent stream.',
    unit: 'per_second',
    tables: perRun(runs, [
      { label: 'received', of: chosen(view, (groups) => framesPerStream(groups, ({ video }) => video)) },
      { label: 'sent', of: chosen(view, (groups) => framesPerStream(groups, ({ sent_video }) => sent_video)) },
    ]),
  };
}

function data(runs: Results[], view: View): Chart[] {
  const rate = (count: (group: GroupSample) => number) => chosen(view, (groups) => dataRate(groups, count));
  return [
    delay(runs, view, { id: 'data-delay', title: 'One-way delay', objective: 'data_delay_p99' }, ({ data }) => data.delay),
    {
      id: 'data-loss',
      title: 'Loss',
      note: 'Messages that did not arrive though later ones did.',
      unit: 'percent',
      ...limit(runs, 'data_loss'),
      tables: perRun(runs, [{ label: 'lost', of: chosen(view, dataLoss) }]),
    },
    {
      id: 'data-violations',
      title: 'Violations',
      note: 'Messages that channels lost, doubled or reordered though they had promised not to.',
      unit: 'per_second',
      tables: perRun(runs, [{ label: 'violations', of: rate(({ data }) => data.violations) }]),
    },
    {
      id: 'data-messages',
      title: 'Messages',
      note: 'Messages that users received and sent.',
      unit: 'per_second',
      tables: perRun(runs, [
        { label: 'received', of: rate(({ data }) => data.messages) },
        { label: 'sent', of: rate(({ sent_data }) => sent_data.messages) },
      ]),
    },
  ];
}

function nodes(runs: Results[]): Chart[] {
  const all: { id: string; title: string; note: string; unit: Unit; of: (node: NodeSample) => number }[] = [
    { id: 'node-cpu', title: 'CPU', note: 'Processors in use.', unit: 'cpus', of: (node) => node.cpu },
    {
      id: 'node-packets',
      title: 'Packets sent',
      note: 'RTP packets to users and to other nodes.',
      unit: 'per_second',
      of: (node) => node.packets_out + node.pipe_packets_out,
    },
    { id: 'node-memory', title: 'Memory', note: 'Resident memory.', unit: 'bytes', of: (node) => node.resident_bytes },
    { id: 'node-drops', title: 'Drops', note: 'Packets that were dropped.', unit: 'per_second', of: (node) => node.drops },
  ];
  return all.map(({ of, note, ...chart }) =>
    runs.length === 1
      ? { ...chart, note: `${note} A gap: the node did not answer.`, tables: runs.map((run) => perNode(run, of)) }
      : { ...chart, note: `${note} Sum of all nodes.`, tables: perRun(runs, [{ label: 'nodes', of: (sample) => ofNodes(sample, of) }]) },
  );
}

function perNode(run: Results, of: (node: NodeSample) => number): Table {
  const line = (name: string, index: number): Line => ({
    label: name,
    color: index,
    dashed: false,
    values: run.samples.map(({ nodes }) => (nodes[index] ? of(nodes[index]) : null)),
  });
  return { times: times(run), lines: run.target.nodes.map(({ name }, index) => line(name, index)) };
}

function generator(runs: Results[]): Chart[] {
  return [
    {
      id: 'generator-cpu',
      title: 'CPU',
      note: 'Processors that the generator uses.',
      unit: 'cpus',
      tables: perRun(runs, [{ label: 'CPU', of: ({ generator }) => generator.cpu }]),
    },
    {
      id: 'generator-lag',
      title: 'Lag',
      note: 'The longest that a timer fired too late in each second.',
      unit: 'ms',
      tables: perRun(runs, [{ label: 'lag', of: ({ generator }) => generator.lag_ms }]),
    },
    {
      id: 'generator-drops',
      title: 'Drops',
      note: 'Datagrams that the kernel dropped between the generator and the network, in each second.',
      unit: 'count',
      tables: perRun(runs, [
        { label: 'receiving', of: ({ generator }) => generator.receive_drops },
        { label: 'sending', of: ({ generator }) => generator.send_drops },
      ]),
    },
  ];
}

/** An objective that all runs have alike. */
function limit(runs: Results[], name: string): { limit?: number } {
  const limits = runs.map((run) => run.slo.find((objective) => objective.name === name)?.limit);
  const [first] = limits;
  return first !== undefined && limits.every((each) => each === first) ? { limit: first } : {};
}
