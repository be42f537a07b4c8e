import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Device, types } from 'mediasoup-client';
import type { Kind, LocalMedia } from '../src/devices';
import { ConnectionLost } from '../src/protoo';
import { Publisher } from '../src/publisher';
import { settle } from './fake-socket';

/** A page that sends, with what it asks the server for and what it tells its user. */
async function sending(kinds: Kind[], failure?: Error) {
  const asked: unknown[] = [];
  const told: string[] = [];
  /** What goes wrong with the first producer. */
  const failures = failure ? [failure] : [];
  const producers: { id: string; paused: boolean; closed: boolean }[] = [];
  const transport = {
    produce: ({ track }: { track: { kind: Kind } }) => {
      const failure = failures.shift();
      if (failure) return Promise.reject(failure);
      const id = `${track.kind}-${producers.length + 1}`;
      const producer = {
        id,
        track,
        paused: false,
        closed: false,
        pause: () => (producer.paused = true),
        resume: () => (producer.paused = false),
        close: () => (producer.closed = true),
      };
      producers.push(producer);
      return Promise.resolve(producer);
    },
  };
  const tracks = Object.fromEntries(kinds.map((kind) => [kind, { kind }]));
  const enabled = { audio: true, video: true };
  const publisher = new Publisher(
    { canProduce: () => true, sendRtpCapabilities: {} } as unknown as Device,
    transport as unknown as types.Transport,
    { tracks, enabled, on: () => () => {} } as unknown as LocalMedia,
    { request: (method: string, data: object) => Promise.resolve(asked.push([method, data]) as never) } as never,
    (text) => told.push(text),
  );
  await settle();
  return { publisher, asked, told, producers };
}

/** What the server has of an own producer. */
const own = (id: string, muted = false) => ({ id, paused: muted, muted });

test('after an interruption what the server lacks is sent anew, and what nobody knows is closed', async () => {
  const { publisher, asked, producers } = await sending(['audio', 'video']);
  assert.deepEqual(producers.map(({ id }) => id), ['audio-1', 'video-2']);
  publisher.reconcile([own('video-2'), own('forgotten')]);
  await settle();
  assert.deepEqual(asked, [['closeProducer', { producerId: 'forgotten' }]]);
  assert.deepEqual(producers.map(({ id, closed }) => [id, closed]), [['audio-1', true], ['video-2', false], ['audio-3', false]]);
});

test('what was interrupted while it began, begins again, and nobody is bothered', async () => {
  const { publisher, told, producers } = await sending(['video'], new ConnectionLost('lost'));
  assert.deepEqual([producers, told], [[], []]);
  publisher.reconcile([own('video-of-which-the-answer-was-lost')]);
  await settle();
  assert.deepEqual(producers.map(({ id }) => id), ['video-1']);
});

test('what is muted is paused, told of, and goes on when it may', async () => {
  const { publisher, asked, told, producers } = await sending(['audio', 'video']);
  // Told of at once, or only after an interruption.
  for (const mute of [() => publisher.setMuted('audio-1', true), () => publisher.reconcile([own('audio-1', true), own('video-2')])]) {
    mute();
    await settle();
    assert.deepEqual(asked.splice(0), [['pauseProducer', { producerId: 'audio-1' }]]);
    assert.deepEqual(told.splice(0), ['Your audio was muted by whoever runs the room']);
    assert.deepEqual(producers.map(({ paused }) => paused), [true, false]);
    publisher.setMuted('audio-1', false);
    await settle();
    assert.deepEqual(asked.splice(0), [['resumeProducer', { producerId: 'audio-1' }]]);
    assert.deepEqual(producers.map(({ paused }) => paused), [false, false]);
  }
});

test('what the server refuses is told', async () => {
  const { told } = await sending(['video'], new Error('the token does not allow it'));
  assert.deepEqual(told, ['Your video cannot be sent: the token does not allow it']);
});
