import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Device, types } from 'mediasoup-client';
import type { Kind, LocalMedia } from '../src/devices';
import type { Encryption } from '../src/encryption';
import { ConnectionLost } from '../src/protoo';
import { Publisher } from '../src/publisher';
import type { Screen } from '../src/screen';
import { settle } from './fake-socket';

/** Sends what was set, as RTCRtpSender does. */
class FakeSender {
  readonly changes: boolean[][] = [];
  private encodings: { active: boolean }[];

  constructor(encodings: number) {
    this.encodings = Array.from({ length: encodings }, () => ({ active: true }));
  }

  getParameters() {
    return { encodings: this.encodings.map((encoding) => ({ ...encoding })) };
  }

  async setParameters(parameters: { encodings: { active: boolean }[] }): Promise<void> {
    this.encodings = parameters.encodings;
    this.changes.push(this.encodings.map(({ active }) => active));
  }
}

/** A page that sends, with what it asks the server for and what it tells its user. */
async function sending(kinds: Kind[], failure?: Error) {
  const asked: unknown[] = [];
  const told: string[] = [];
  /** What goes wrong with the first producer. */
  const failures = failure ? [failure] : [];
  const producers: { id: string; paused: boolean; closed: boolean; rtpSender: FakeSender; appData: object }[] = [];
  const transport = {
    produce: ({ track, encodings = [{}], appData }: { track: { kind: Kind }; encodings?: object[]; appData: object }) => {
      const failure = failures.shift();
      if (failure) return Promise.reject(failure);
      const id = `${track.kind}-${producers.length + 1}`;
      const producer = {
        id,
        track,
        appData,
        rtpSender: new FakeSender(encodings.length),
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
  /** Something of the user's, and what is to be called when it changes. */
  const changing = () => {
    let changed = () => {};
    const on = (_event: string, listener: () => void) => {
      changed = listener;
      return () => {};
    };
    const change = async () => {
      changed();
      await settle();
    };
    return { on, change };
  };
  const screen: ReturnType<typeof changing> & { track?: object } = changing();
  const encryption: ReturnType<typeof changing> & { passphrase?: string; seal: () => void } = { ...changing(), seal: () => {} };
  const publisher = new Publisher(
    { canProduce: () => true, sendRtpCapabilities: { codecs: [{ mimeType: 'video/VP8' }] } } as unknown as Device,
    transport as unknown as types.Transport,
    {
      media: { tracks, enabled, on: () => () => {} } as unknown as LocalMedia,
      screen: screen as unknown as Screen,
      encryption: encryption as unknown as Encryption,
    },
    { request: (method: string, data: object) => Promise.resolve(asked.push([method, data]) as never) } as never,
    (text) => told.push(text),
  );
  await settle();
  return { publisher, asked, told, producers, screen, encryption };
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

test('encodings that nobody receives are not sent, but for the lowest', async () => {
  const { publisher, producers } = await sending(['video']);
  const sender = producers[0]?.rtpSender;
  for (const wanted of [[false, true, false], [false, false, false], [false, false, false], [true, false, true]]) {
    publisher.setWanted('video-1', wanted);
    await settle();
  }
  assert.deepEqual(sender?.changes.splice(0), [[true, true, false], [true, false, false], [true, false, true]]);
  // What was said during an interruption was not heard.
  publisher.reconcile([own('video-1')]);
  await settle();
  assert.deepEqual(sender?.changes, [[true, true, true]]);
});

test('what is wanted may be known before the producer', async () => {
  const { publisher, producers, screen } = await sending(['video']);
  publisher.setWanted('video-1', [true, false, false]);
  screen.track = { kind: 'video' };
  publisher.setWanted('video-2', [false]);
  await screen.change();
  assert.deepEqual(producers.map(({ rtpSender }) => rtpSender.changes), [[[true, false, false]], []]);
});

test('a screen is sent beside the camera, and ends when it is not shared any more', async () => {
  const { asked, producers, screen } = await sending(['audio', 'video']);
  screen.track = { kind: 'video' };
  await screen.change();
  assert.deepEqual(producers.map(({ appData }) => appData), [{ source: 'audio' }, { source: 'video' }, { source: 'screensharing' }]);
  assert.deepEqual(producers.map(({ rtpSender }) => rtpSender.getParameters().encodings.length), [1, 3, 1]);
  delete screen.track;
  await screen.change();
  assert.deepEqual(asked, [['closeProducer', { producerId: 'video-3' }]]);
  assert.deepEqual(producers.map(({ closed }) => closed), [false, false, true]);
});

test('another passphrase is another producer, and without the browser\'s help nothing is sent', async () => {
  const { asked, told, producers, encryption } = await sending(['audio']);
  encryption.passphrase = 'secret';
  await encryption.change();
  assert.deepEqual([asked, producers[0]?.closed], [[['closeProducer', { producerId: 'audio-1' }]], true]);
  assert.equal(told[0], 'Your audio cannot be sent: this browser cannot encrypt it');
  assert.equal(producers.length, 1);
});
