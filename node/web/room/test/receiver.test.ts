import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { types } from 'mediasoup-client';
import type { NewConsumer } from '../src/demo-v3';
import { deferred } from '../src/promises';
import { Receiver } from '../src/receiver';

class FakeStream {
  readonly tracks = new Set<unknown>();
  addTrack(track: unknown): void {
    this.tracks.add(track);
  }
  removeTrack(track: unknown): void {
    this.tracks.delete(track);
  }
}

Object.assign(globalThis, { MediaStream: FakeStream });

/** A page that receives, with the ids of the consumers that it has, in order of their beginning. */
function receiving() {
  const consumers: string[] = [];
  const open = deferred<void>();
  const transport = {
    consume: async ({ id }: { id: string }) => {
      await open.promise;
      consumers.push(id);
      const close = () => consumers.splice(consumers.indexOf(id), 1);
      return { track: id, close } as unknown as types.Consumer;
    },
  };
  const receiver = new Receiver(Promise.resolve(transport as never), { open: () => {} }, () => {});
  return { receiver, consumers, open };
}

/** What a peer is known to send, by what. */
function sourcesOf(receiver: Receiver, id: string) {
  const sources = Object.entries(receiver.peers.get(id)?.sources ?? {});
  return Object.fromEntries(sources.map(([source, { consumerId, paused }]) => [source, { consumerId, paused }]));
}

const peer = (id: string) => ({ id, displayName: id });

function offer(id: string, peerId: string, more: Partial<NewConsumer> = {}): NewConsumer {
  const rtpParameters = {} as types.RtpParameters;
  return { id, peerId, producerId: `of ${id}`, kind: 'video', rtpParameters, producerPaused: false, ...more };
}

test('a page that goes on catches up', async () => {
  const { receiver, consumers, open } = receiving();
  open.resolve();
  receiver.found([peer('ann'), peer('ben')]);
  await Promise.all([receiver.consume(offer('a', 'ann')), receiver.consume(offer('b', 'ben'))]);
  await receiver.consume(offer('c', 'ben', { kind: 'audio' }));
  const { stream } = receiver.peers.get('ben') ?? {};
  const peers = [{ id: 'ben', displayName: 'Benjamin' }, peer('cem')];
  receiver.reconcile({ peers, consumers: [{ id: 'b', producerPaused: true }] });
  assert.deepEqual([...receiver.peers.values()].map(({ displayName }) => displayName), ['Benjamin', 'cem']);
  assert.deepEqual(consumers, ['b']);
  assert.deepEqual(sourcesOf(receiver, 'ben'), { video: { consumerId: 'b', paused: true } });
  assert.equal(receiver.peers.get('ben')?.stream, stream, 'what is played goes on');
  await receiver.consume(offer('d', 'cem'));
  assert.deepEqual(consumers, ['b', 'd']);
});

test('what is offered again while it is set up is set up once', async () => {
  const { receiver, consumers, open } = receiving();
  receiver.found([peer('ann')]);
  const setups = [receiver.consume(offer('a', 'ann'))];
  receiver.reconcile({ peers: [peer('ann')], consumers: [] });
  setups.push(receiver.consume(offer('a', 'ann', { producerPaused: true })));
  open.resolve();
  await Promise.all(setups);
  assert.deepEqual(consumers, ['a']);
  assert.deepEqual(sourcesOf(receiver, 'ann').video, { consumerId: 'a', paused: true });
});

test('what is not offered again is given up, set up or not', async () => {
  const { receiver, consumers, open } = receiving();
  receiver.found([peer('ann')]);
  const setup = receiver.consume(offer('a', 'ann'));
  receiver.reconcile({ peers: [peer('ann')], consumers: [] });
  open.resolve();
  await setup;
  assert.deepEqual([consumers, sourcesOf(receiver, 'ann')], [[], {}]);
});

test('what was given up can be offered anew', async () => {
  const { receiver, consumers, open } = receiving();
  open.resolve();
  receiver.found([peer('ann')]);
  await receiver.consume(offer('a', 'ann'));
  receiver.reconcile({ peers: [peer('ann')], consumers: [] });
  await receiver.consume(offer('a', 'ann'));
  assert.deepEqual(consumers, ['a']);
  assert.equal(receiver.peers.get('ann')?.isSending('video'), true);
});

test('news that overtake the setting up of a consumer count', async () => {
  const { receiver, consumers, open } = receiving();
  receiver.found([peer('ann')]);
  const setups = ['a', 'b'].map((id) => receiver.consume(offer(id, 'ann', { kind: id === 'a' ? 'audio' : 'video' })));
  receiver.notified('consumerClosed', { consumerId: 'a' } as never);
  receiver.notified('consumerPaused', { consumerId: 'b' } as never);
  open.resolve();
  await Promise.all(setups);
  assert.deepEqual([consumers, sourcesOf(receiver, 'ann')], [['b'], { video: { consumerId: 'b', paused: true } }]);
});

test('a camera and a screen of one peer are two pictures', async () => {
  const { receiver, open } = receiving();
  open.resolve();
  receiver.found([peer('ann')]);
  await receiver.consume(offer('a', 'ann', { appData: { source: 'video' } }));
  await Promise.all([
    receiver.consume(offer('b', 'ann', { appData: { share: true } })),
    receiver.consume(offer('c', 'ann', { kind: 'audio', appData: { source: 'audio' } })),
  ]);
  const ann = receiver.peers.get('ann');
  assert.deepEqual(Object.entries(ann?.sources ?? {}).map(([source, { consumerId }]) => [source, consumerId]), [
    ['video', 'a'], ['screensharing', 'b'], ['audio', 'c'],
  ]);
  assert.deepEqual([ann?.stream, ann?.screen].map((stream) => [...(stream as unknown as FakeStream).tracks]), [['a', 'c'], ['b']]);
  receiver.notified('consumerClosed', { consumerId: 'b' } as never);
  assert.deepEqual([ann?.isSending('screensharing'), ann?.isSending('video')], [false, true]);
});

test('the layer that arrives is known, also if it is told early, and that none does', async () => {
  const { receiver, open } = receiving();
  receiver.found([peer('ann')]);
  const rtpParameters = { encodings: [{ scalabilityMode: 'L3T3' }] } as types.RtpParameters;
  const setup = receiver.consume(offer('a', 'ann', { rtpParameters }));
  receiver.notified('consumerLayersChanged', { consumerId: 'a', spatialLayer: 1, temporalLayer: 2 } as never);
  open.resolve();
  await setup;
  const video = () => receiver.peers.get('ann')?.sources.video;
  assert.deepEqual([video()?.spatialLayers, video()?.spatialLayer], [3, 1]);
  receiver.notified('consumerLayersChanged', { consumerId: 'a', spatialLayer: null, temporalLayer: null } as never);
  assert.equal(video()?.spatialLayer, null);
  receiver.notified('consumerLayersChanged', { consumerId: 'a' } as never);
  assert.deepEqual([video()?.spatialLayer, video()?.paused], [null, false]);
});
