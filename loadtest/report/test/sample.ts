/** Small results to shape: one group that receives, of which a test says what matters. */
import type { GroupSample, Results, Sample } from '../src/results';

const NONE = { count: 0, p50_ms: 0, p90_ms: 0, p99_ms: 0, max_ms: 0 };

const RECEIVED = {
  streams: 0, packets: 0, bytes: 0, expected: 0, missing: 0, repaired: 0, lost: 0, frames: 0, key_frames: 0,
  freezes_200ms: 0, freezes_500ms: 0, frozen_ms: 0, layer_switches: 0, nacked: 0, key_frame_requests: 0, jitter_ms: 0,
  delay: NONE, first_frame: NONE,
};

const SENT = {
  streams: 0, packets: 0, bytes: 0, frames: 0, key_frames: 0, key_frame_requests: 0, nacked: 0, retransmitted: 0,
  allowed_bits_per_second: 0,
};

const DATA = {
  channels: 0, messages: 0, bytes: 0, expected: 0, lost: 0, duplicates: 0, out_of_order: 0, violations: 0, delay: NONE,
};

const SENT_DATA = { channels: 0, messages: 0, bytes: 0, refused: 0 };

export function durations(p50_ms: number, p99_ms = p50_ms) {
  return { count: 1, p50_ms, p90_ms: p99_ms, p99_ms, max_ms: p99_ms };
}

export function group(index: number, video: Partial<GroupSample['video']> = {}, sent: Partial<GroupSample['sent_video']> = {}): GroupSample {
  return {
    group: index, interval_s: 1, audio: RECEIVED, video: { ...RECEIVED, ...video }, sent_audio: SENT, sent_video: { ...SENT, ...sent },
    data: DATA, sent_data: SENT_DATA,
  };
}

export function dataGroup(index: number, data: Partial<GroupSample['data']>, sent: Partial<GroupSample['sent_data']> = {}): GroupSample {
  return { ...group(index), data: { ...DATA, ...data }, sent_data: { ...SENT_DATA, ...sent } };
}

export function sample(at_s: number, more: Partial<Sample> = {}): Sample {
  return {
    at_s, users_wanted: 2, users_joined: 2, joins: NONE, joins_failed: 0, groups: [], nodes: [],
    generator: { cpu: 0, lag_ms: 0, receive_drops: 0, send_drops: 0 }, ...more,
  };
}

/** A run with the groups `viewer @ eu-1` and `viewer @ us-1`. */
export function run(samples: Sample[], more: Partial<Results> = {}): Results {
  const node = (name: string, region: string) => ({ name, region, url: `ws://${name}` });
  return {
    tool_version: '0', started_unix_ms: 0, ran_s: samples.length, ended: { how: 'completed' },
    scenario: { name: 's', description: '', users: 2, rooms: 1, ramp_ms: 1000, duration_ms: 1000, toml: '' },
    target: { label: 't', nodes: [node('eu-1', 'eu'), node('us-1', 'us')] },
    groups: [{ users: 'viewer', node: 'eu-1', region: 'eu' }, { users: 'viewer', node: 'us-1', region: 'us' }],
    samples, steady: [], joins: { attempted: 0, succeeded: 0, failed: {}, time: NONE }, nodes: [],
    generator: { cpu: 0, lag_p99_ms: 0, receive_drops: 0, send_drops: 0, open_every: 1, overloaded: [] },
    events: [], slo: [], verdict: { is: 'passed' }, ...more,
  };
}
