import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { types } from 'mediasoup-client';
import { DataPublisher } from '../src/data/data-publisher';
import { DataReceiver } from '../src/data/data-receiver';
import type { NewDataConsumer } from '../src/demo-v3';
import { deferred } from '../src/promises';
import { settle } from './fake-socket';

/** A page that receives, with the data consumers that it has, and what it has heard. */
function receiving() {
  const consumers = new Map<string, { close(): void; hear(data: string): void; binaryType?: string }>();
  const open = deferred<void>();
  const transport = {
    consumeData: async ({ id }: { id: string }) => {
      await open.promise;
      let hear = (_data: string) => {};
      const ends: (() => void)[] = [];
      const close = () => {
        consumers.delete(id);
        for (const end of ends) end();
      };
      const consumer = {
        close,
        hear: (data: string) => hear(data),
        on: (_event: string, listener: (data: string) => void) => (hear = listener),
        observer: { once: (_event: string, listener: () => void) => ends.push(listener) },
      };
      consumers.set(id, consumer);
      return consumer as unknown as types.DataConsumer;
    },
  };
  const heard: unknown[] = [];
  const receiver = new DataReceiver(
    Promise.resolve(transport as never),
    ({ peerId, label, data }) => heard.push([peerId, label, data]),
    ({ peerId, label }) => heard.push([peerId, label]),
  );
  return { receiver, consumers, heard, open };
}

function offer(id: string, peerId: string | null, label = 'chat'): NewDataConsumer {
  return { id, peerId, dataProducerId: `of ${id}`, label, protocol: '', sctpStreamParameters: { streamId: 1 } };
}

test('messages are heard with their peer and channel, and the end of it too', async () => {
  const { receiver, consumers, heard, open } = receiving();
  open.resolve();
  await Promise.all([receiver.consume(offer('a', 'ann')), receiver.consume(offer('b', 'ann', 'signals'))]);
  consumers.get('a')?.hear('hi');
  consumers.get('b')?.hear('{}');
  receiver.close('a');
  receiver.closePeer('ann');
  assert.deepEqual(heard, [['ann', 'chat', 'hi'], ['ann', 'signals', '{}'], ['ann', 'chat'], ['ann', 'signals']]);
  assert.equal(consumers.size, 0);
});

test('what nobody here reads is refused', async () => {
  const { receiver, consumers, open } = receiving();
  open.resolve();
  await assert.rejects(receiver.consume(offer('a', 'ann', 'bot')), /does not read "bot"/);
  await assert.rejects(receiver.consume(offer('b', null)), /does not read/);
  assert.equal(consumers.size, 0);
});

test('what ends while it is set up is not there', async () => {
  const { receiver, consumers, heard, open } = receiving();
  const setups = [offer('a', 'ann'), offer('b', 'ben'), offer('c', 'cem')].map((request) => receiver.consume(request));
  receiver.close('a');
  receiver.closePeer('ben');
  open.resolve();
  await Promise.all(setups);
  assert.deepEqual([[...consumers.keys()], heard], [['c'], []]);
});

test('what is offered again is set up once, and after an interruption what is not there has ended', async () => {
  const { receiver, consumers, heard, open } = receiving();
  const setups = [receiver.consume(offer('a', 'ann')), receiver.consume(offer('a', 'ann')), receiver.consume(offer('b', 'ben'))];
  open.resolve();
  await Promise.all(setups);
  await receiver.consume(offer('a', 'ann'));
  receiver.reconcile(['a']);
  assert.deepEqual([[...consumers.keys()], heard], [['a'], [['ben', 'chat']]]);
});

test('a channel that was replaced already has not ended', async () => {
  const { receiver, heard, open } = receiving();
  open.resolve();
  await receiver.consume(offer('a', 'ann', 'signals'));
  await receiver.consume(offer('b', 'ann', 'signals'));
  receiver.close('a');
  assert.deepEqual(heard, []);
  receiver.close('b');
  assert.deepEqual(heard, [['ann', 'signals']]);
});

test('after an interruption data producers that the server has not are closed, and those that nobody knows at the server', async () => {
  const closed: string[] = [];
  let count = 0;
  const transport = {
    produceData: ({ label, appData }: types.DataProducerOptions) => {
      assert.deepEqual(appData, { channel: label });
      const id = `data-${++count}`;
      const ends: (() => void)[] = [];
      const close = () => {
        closed.push(id);
        for (const end of ends) end();
      };
      return Promise.resolve({ id, close, observer: { once: (_event: string, listener: () => void) => ends.push(listener) } });
    },
  };
  const publisher = new DataPublisher(Promise.resolve(transport as never), (id) => closed.push(`${id} at the server`));
  await publisher.produce('chat', '');
  await publisher.produce('signals', 'sluice-signals');
  await settle();
  publisher.reconcile(['data-2', 'data-3']);
  assert.deepEqual(closed, ['data-3 at the server', 'data-1']);
});
