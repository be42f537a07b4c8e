import assert from 'node:assert/strict';
import { test } from 'node:test';
import { difference, duration, format, plural, runTime, scaleOf } from '../src/format';

test('figures have three digits and a unit', () => {
  const figures = [
    format('ms', 0), format('ms', 1.234), format('ms', 9.996), format('ms', 99.96), format('ms', 12_345.6),
    format('percent', 0.001), format('percent', 12.34), format('bits_per_second', 31_940), format('bits_per_second', 999_600),
    format('bits_per_second', 2.5e12), format('bytes', 143e6), format('per_hour', 0.5), format('count', 1_234_567), format('ms', null),
  ];
  assert.deepEqual(figures, [
    '0 ms', '1.23 ms', '10.0 ms', '100 ms', '12,346 ms', '<0.01 %', '12.3 %', '31.9 kbit/s', '1.00 Mbit/s', '2,500 Gbit/s',
    '143 MB', '0.50 /h', '1,234,567', '–',
  ]);
});

test('an axis has one unit for all its values', () => {
  assert.deepEqual(scaleOf('bits_per_second', 2_500_000), { divisor: 1e6, suffix: 'Mbit/s' });
  assert.deepEqual(scaleOf('bytes', 10), { divisor: 1, suffix: 'B' });
  assert.deepEqual(scaleOf('ms', 5000), { divisor: 1, suffix: 'ms' });
});

test('a difference needs something to differ from', () => {
  assert.equal(difference(200, 150), -25);
  assert.equal(difference(0, 0), 0);
  assert.equal(difference(0, 1), undefined);
  assert.equal(difference(null, 1), undefined);
});

test('times are worded for the length of the run', () => {
  assert.deepEqual([runTime(45, 60), runTime(125, 600), runTime(0.5, 1)], ['45 s', '2:05', '0.5 s']);
  assert.deepEqual([duration(15_000), duration(600_000), duration(90_000), duration(400)], ['15 s', '10 min', '90 s', '0.4 s']);
  assert.deepEqual([plural(1, 'room'), plural(2_500, 'user')], ['1 room', '2,500 users']);
});
