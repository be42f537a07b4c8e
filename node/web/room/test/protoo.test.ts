import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Protoo, RequestError } from '../src/protoo';
import { FakeSocket, settle } from './fake-socket';

async function open(handler = (_method: string, _data: never): Promise<unknown> => Promise.resolve()) {
  const protoo = await Protoo.open('ws://server/', handler);
  return { protoo, socket: FakeSocket.last };
}

test('speaks the protoo subprotocol', async () => {
  assert.equal((await open()).socket.protocol, 'protoo');
});

test('an answer goes to its request, in any order', async () => {
  const { protoo, socket } = await open();
  const [first, second] = [protoo.request('one', { a: 1 }), protoo.request('two')];
  const [one, two] = socket.sent;
  assert.deepEqual({ ...one, id: 0 }, { request: true, id: 0, method: 'one', data: { a: 1 } });
  socket.receive({ response: true, id: two?.['id'], ok: true, data: 'second' });
  socket.receive({ response: true, id: one?.['id'], ok: true, data: 'first' });
  assert.deepEqual(await Promise.all([first, second]), ['first', 'second']);
  protoo.close();
});

test('an error answer says code, reason and method', async () => {
  const { protoo, socket } = await open();
  const request = protoo.request('join');
  socket.receive({ response: true, id: socket.sent[0]?.['id'], errorCode: 403, errorReason: 'room is full' });
  await assert.rejects(request, (error) => {
    assert.ok(error instanceof RequestError);
    assert.deepEqual([error.code, error.message, error.method], [403, 'room is full', 'join']);
    return true;
  });
  protoo.close();
});

test('requests of the server are answered with what the handler returns or throws', async () => {
  const { protoo, socket } = await open((method) =>
    method === 'good' ? Promise.resolve({ fine: true }) : Promise.reject(new RequestError(method, 501, 'unknown')),
  );
  socket.receive({ request: true, id: 5, method: 'good', data: {} });
  socket.receive({ request: true, id: 6, method: 'bad', data: {} });
  await settle();
  assert.deepEqual(socket.sent, [
    { response: true, id: 5, ok: true, data: { fine: true } },
    { response: true, id: 6, errorCode: 501, errorReason: 'unknown' },
  ]);
  protoo.close();
});

test('notifications reach their listeners', async () => {
  const { protoo, socket } = await open();
  const heard: unknown[] = [];
  protoo.on('notification', (notification) => heard.push(notification));
  socket.receive({ notification: true, method: 'peerClosed', data: { peerId: 'a' } });
  assert.deepEqual(heard, [{ method: 'peerClosed', data: { peerId: 'a' } }]);
  protoo.close();
});

test('the end of the connection ends what waits, once, with the close code', async () => {
  const { protoo, socket } = await open();
  const ends: unknown[] = [];
  protoo.on('close', (closed) => ends.push(closed));
  const request = protoo.request('join');
  socket.end(4000, 'replaced');
  protoo.close();
  await assert.rejects(request, /lost/);
  await assert.rejects(protoo.request('later'), /closed/);
  assert.deepEqual(ends, [{ code: 4000, reason: 'replaced' }]);
});

test('what is not JSON, and answers that nobody waits for, do no harm', async (context) => {
  context.mock.method(console, 'warn', () => {});
  const { protoo, socket } = await open();
  socket.receive('{');
  socket.receive({ response: true, id: 1, ok: true });
  const request = protoo.request('still-works');
  socket.receive({ response: true, id: socket.sent[0]?.['id'], ok: true, data: 1 });
  assert.equal(await request, 1);
  protoo.close();
});

test('a server that cannot be reached is said so', async () => {
  const opening = Protoo.open('ws://server/', () => Promise.resolve());
  FakeSocket.last.onopen = null;
  FakeSocket.last.end(1006);
  await assert.rejects(opening, /cannot be reached/);
});
