/** What follows from the counts of an interval. `null` where there was nothing to measure. */
import type { Durations, GroupSample, NodeSample, Received, Results, Sample, Sent } from './results';

export type Kind = 'audio' | 'video';
export type Percentile = 'p50_ms' | 'p90_ms' | 'p99_ms' | 'max_ms';

export function received(group: GroupSample, kind: Kind): Received {
  return group[kind];
}

export function sent(group: GroupSample, kind: Kind): Sent {
  return kind === 'audio' ? group.sent_audio : group.sent_video;
}

export function quantile(durations: Durations, percentile: Percentile): number | null {
  return durations.count > 0 ? durations[percentile] : null;
}

/** The greatest of the groups' quantiles. That of all groups together is at most this; it cannot be computed from them. */
export function worst(durations: Durations[], percentile: Percentile): number | null {
  return greatest(durations.map((each) => quantile(each, percentile)));
}

export function greatest(values: (number | null)[]): number | null {
  return values.reduce((most, value) => (value === null || (most !== null && most >= value) ? most : value), null);
}

/** A share in percent. */
export function percent(part: number, whole: number): number | null {
  return whole > 0 ? (part / whole) * 100 : null;
}

export function sum<T>(items: T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

export function bitsPerSecond(groups: GroupSample[], bytes: (group: GroupSample) => number): number | null {
  return groups.length > 0 ? sum(groups, (group) => rate(bytes(group) * 8, group)) : null;
}

/** The mean bitrate of a stream. */
export function bitsPerStream(groups: GroupSample[], of: (group: GroupSample) => Received | Sent): number | null {
  const streams = sum(groups, (group) => of(group).streams);
  return streams > 0 ? sum(groups, (group) => rate(of(group).bytes * 8, group)) / streams : null;
}

/** The mean frames per second of a stream. */
export function framesPerStream(groups: GroupSample[], of: (group: GroupSample) => Received | Sent): number | null {
  const streams = sum(groups, (group) => of(group).streams);
  return streams > 0 ? sum(groups, (group) => rate(of(group).frames, group)) / streams : null;
}

/** A share of the packets that should have arrived, in percent. */
export function loss(groups: GroupSample[], kind: Kind, packets: 'missing' | 'lost'): number | null {
  return percent(sum(groups, (group) => group[kind][packets]), sum(groups, (group) => group[kind].expected));
}

/** Something counted of received video, by the second. */
export function videoRate(groups: GroupSample[], count: 'freezes_200ms' | 'freezes_500ms'): number | null {
  return groups.length > 0 ? sum(groups, (group) => rate(group.video[count], group)) : null;
}

/** Something counted of data channels, by the second. */
export function dataRate(groups: GroupSample[], count: (group: GroupSample) => number): number | null {
  return groups.length > 0 ? sum(groups, (group) => rate(count(group), group)) : null;
}

/** A share of the messages that should have arrived, in percent. */
export function dataLoss(groups: GroupSample[]): number | null {
  return percent(sum(groups, ({ data }) => data.lost), sum(groups, ({ data }) => data.expected));
}

/** A figure of all nodes that answered. */
export function ofNodes(sample: Sample, figure: (node: NodeSample) => number): number | null {
  const nodes = sample.nodes.filter((node) => node !== null);
  return nodes.length > 0 ? sum(nodes, figure) : null;
}

/** Whether anybody in a run was to receive streams of a kind. */
export function has(run: Results, kind: Kind): boolean {
  return run.samples.some(({ groups }) => groups.some((group) => group[kind].streams > 0 || group[kind].expected > 0));
}

/** Whether anybody in a run was to send or receive messages. */
export function hasData(run: Results): boolean {
  return run.samples.some(({ groups }) => groups.some(({ data, sent_data }) => data.channels > 0 || sent_data.channels > 0));
}

function rate(count: number, { interval_s }: GroupSample): number {
  return interval_s > 0 ? count / interval_s : 0;
}
