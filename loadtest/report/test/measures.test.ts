import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitsPerSecond, bitsPerStream, framesPerStream, loss, videoRate, worst } from '../src/measures';
import { durations, group } from './sample';

test('rates are by the length of the interval', () => {
  const long = { ...group(0, { streams: 2, bytes: 1000, frames: 60, freezes_200ms: 4 }), interval_s: 2 };
  const short = group(1, { streams: 1, bytes: 500, frames: 15 });
  assert.equal(bitsPerSecond([long, short], ({ video }) => video.bytes), 8000);
  assert.equal(bitsPerStream([long, short], ({ video }) => video), 8000 / 3);
  assert.equal(framesPerStream([long, short], ({ video }) => video), 15);
  assert.equal(videoRate([long, short], 'freezes_200ms'), 2);
});

test('loss is a share of all packets that should have come, not a mean of shares', () => {
  const groups = [group(0, { expected: 900, missing: 9, lost: 0 }), group(1, { expected: 100, missing: 91, lost: 1 })];
  assert.equal(loss(groups, 'video', 'missing'), 10);
  assert.equal(loss(groups, 'video', 'lost'), 0.1);
});

test('of nothing there is no figure', () => {
  assert.equal(bitsPerSecond([], ({ video }) => video.bytes), null);
  assert.equal(bitsPerStream([group(0)], ({ video }) => video), null);
  assert.equal(loss([group(0)], 'video', 'lost'), null);
  assert.equal(worst([{ ...durations(5), count: 0 }], 'p99_ms'), null);
});

test('the worst is the greatest of those that measured anything', () => {
  assert.equal(worst([durations(5), { ...durations(50), count: 0 }, durations(7)], 'p99_ms'), 7);
});
