/** What the page is given: results as `docs/results.md` describes them, and key figures that were computed from them. */
import type { Unit } from './format';

export interface Data {
  runs: Results[];
  figures: Figure[];
}

/** A key figure, with a value for each run. */
export interface Figure {
  key: string;
  name: string;
  unit: Unit;
  better: 'lower' | 'higher' | 'neither';
  values: (number | null)[];
}

export interface Results {
  tool_version: string;
  scenario: {
    name: string;
    description: string;
    users: number;
    rooms: number;
    ramp_ms: number;
    duration_ms: number;
    toml: string;
  };
  target: { label: string; nodes: NodeInfo[] };
  started_unix_ms: number;
  ran_s: number;
  ended: { how: 'completed' | 'interrupted' } | { how: 'aborted'; reason: string };
  groups: Group[];
  samples: Sample[];
  steady: GroupSample[];
  joins: { attempted: number; succeeded: number; failed: Record<string, number>; time: Durations };
  nodes: NodeTotals[];
  generator: GeneratorTotals;
  events: Event[];
  slo: Objective[];
  verdict: { is: 'passed' | 'failed' } | { is: 'not_judged'; reason: string };
}

export interface NodeInfo {
  name: string;
  region: string;
  url: string;
}

export interface Group {
  users: string;
  node: string;
  region: string;
}

export interface Sample {
  at_s: number;
  users_wanted: number;
  users_joined: number;
  joins: Durations;
  joins_failed: number;
  groups: GroupSample[];
  nodes: (NodeSample | null)[];
  generator: { cpu: number; lag_ms: number; receive_drops: number; send_drops: number };
}

export interface GroupSample {
  group: number;
  interval_s: number;
  audio: Received;
  video: Received;
  sent_audio: Sent;
  sent_video: Sent;
  data: DataReceived;
  sent_data: DataSent;
}

export interface Received {
  streams: number;
  packets: number;
  bytes: number;
  expected: number;
  missing: number;
  repaired: number;
  lost: number;
  frames: number;
  key_frames: number;
  freezes_200ms: number;
  freezes_500ms: number;
  frozen_ms: number;
  layer_switches: number;
  nacked: number;
  key_frame_requests: number;
  jitter_ms: number;
  delay: Durations;
  first_frame: Durations;
}

export interface Sent {
  streams: number;
  packets: number;
  bytes: number;
  frames: number;
  key_frames: number;
  key_frame_requests: number;
  nacked: number;
  retransmitted: number;
  allowed_bits_per_second: number;
}

export interface DataReceived {
  channels: number;
  messages: number;
  bytes: number;
  expected: number;
  lost: number;
  duplicates: number;
  out_of_order: number;
  violations: number;
  delay: Durations;
}

export interface DataSent {
  channels: number;
  messages: number;
  bytes: number;
  refused: number;
}

export interface Durations {
  count: number;
  p50_ms: number;
  p90_ms: number;
  p99_ms: number;
  max_ms: number;
}

export interface NodeSample {
  cpu: number;
  worker_cpu: number;
  resident_bytes: number;
  packets_in: number;
  packets_out: number;
  pipe_packets_in: number;
  pipe_packets_out: number;
  drops: number;
}

export interface NodeTotals {
  cpu: number;
  max_resident_bytes: number;
  packets_per_cpu_second: number | null;
  drops: Record<string, number>;
}

export interface GeneratorTotals {
  cpu: number;
  lag_p99_ms: number;
  receive_drops: number;
  send_drops: number;
  open_every: number;
  overloaded: string[];
}

export interface Event {
  at_s: number;
  what: string;
}

export interface Objective {
  name: string;
  limit: number;
  measured: number | null;
  unit: string;
  met: boolean;
}
