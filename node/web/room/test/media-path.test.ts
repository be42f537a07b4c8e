import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import type { types } from 'mediasoup-client';
import { MediaPath } from '../src/media-path';

const DETOUR = [{ urls: 'turn:sfu.example' }];

/** What was done to a transport, in order. */
let done: string[];
let path: MediaPath | undefined;
/** By what its media go. */
let candidate: { protocol: string; candidateType: string };
let online: (() => void) | undefined;
let failure: Error | undefined;

const transport = {
  closed: false,
  connectionState: 'connected',
  restartIce: async () => void done.push('restart'),
  updateIceServers: async ({ iceServers }: { iceServers: RTCIceServer[] }) => void done.push(`detours ${iceServers.length}`),
  getStats: async () =>
    new Map([
      ['P', { id: 'P', type: 'candidate-pair', nominated: true, localCandidateId: 'L' }],
      ['L', { id: 'L', type: 'local-candidate', ...candidate }],
    ]),
} as unknown as types.Transport;

function watch(detour: RTCIceServer[], newParameters = async () => ({}) as types.IceParameters): MediaPath {
  path = new MediaPath(transport, detour, newParameters, (error) => (failure = error));
  return path;
}

async function pass(ms: number): Promise<void> {
  mock.timers.tick(ms);
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  [done, failure, candidate] = [[], undefined, { protocol: 'udp', candidateType: 'host' }];
  Object.assign(globalThis, {
    addEventListener: (_: string, listener: () => void) => (online = listener),
    removeEventListener: () => (online = undefined),
  });
});

afterEach(() => {
  path?.close();
  mock.timers.reset();
  assert.equal(online, undefined, 'nothing listens any more');
});

test('what does not come up takes the detour after two seconds', async () => {
  watch(DETOUR).follow('connecting');
  await pass(1_999);
  assert.deepEqual(done, []);
  await pass(1);
  assert.deepEqual(done, ['detours 1', 'restart']);
});

test('what comes up in time needs none', async () => {
  const path = watch(DETOUR);
  path.follow('connecting');
  path.follow('connected');
  await pass(10_000);
  assert.deepEqual(done, []);
});

test('what breaks is repaired after three seconds, by the direct ways first', async () => {
  const path = watch(DETOUR);
  path.follow('connected');
  path.follow('disconnected');
  await pass(3_000);
  assert.deepEqual(done, ['restart']);
  await pass(2_000);
  assert.deepEqual(done, ['restart', 'detours 1', 'restart']);
  assert.equal(path.hasFailed, false);
});

test('what fails for good says so, until it is there', async () => {
  const path = watch([]);
  path.follow('connected');
  path.follow('failed');
  assert.equal(path.hasFailed, false, 'it was there');
  path.follow('failed');
  assert.equal(path.hasFailed, true);
  path.follow('connected');
  assert.equal(path.hasFailed, false);
  await pass(0);
  assert.deepEqual(done, ['restart', 'restart']);
});

test('whose media go round about is looked for a direct way each minute, and when there is a network again', async () => {
  candidate = { protocol: 'udp', candidateType: 'relay' };
  watch(DETOUR).follow('connected');
  await pass(60_000);
  assert.deepEqual(done, ['detours 0', 'restart']);
  candidate = { protocol: 'udp', candidateType: 'host' };
  online?.();
  await pass(60_000);
  assert.deepEqual(done, ['detours 0', 'restart'], 'it was found');
});

test('a node that cannot be asked is told', async () => {
  watch([], () => Promise.reject(new Error('gone'))).follow('failed');
  await pass(0);
  assert.equal(failure?.message, 'gone');
});
