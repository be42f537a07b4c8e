import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { RequestError } from '../src/protoo';
import { Signalling } from '../src/signalling';
import { FakeSocket, settle } from './fake-socket';

/** What runs after a while, unless it is given up. */
let timers: { ms: number; run: () => void }[];

beforeEach(() => {
  timers = [];
  FakeSocket.all = [];
  FakeSocket.reachable = true;
  mock.method(globalThis, 'setTimeout', (run: () => void, ms: number) => {
    const timer = { ms, run };
    timers.push(timer);
    return timer;
  });
  mock.method(globalThis, 'clearTimeout', (timer: (typeof timers)[number]) => {
    timers = timers.filter((other) => other !== timer);
  });
  mock.method(globalThis, 'fetch', () => Promise.reject(new Error('nobody is there')));
});

afterEach(() => mock.restoreAll());

/** Lets the pauses of this length pass. */
async function pass(ms: number): Promise<void> {
  const due = timers.filter((timer) => timer.ms === ms);
  timers = timers.filter((timer) => timer.ms !== ms);
  for (const { run } of due) run();
  await settle();
}

/** In a room, with what is heard there. */
async function open() {
  const signalling = await Signalling.open((resumes) => `ws://server/?resume=${resumes}`, () => Promise.resolve());
  const heard: unknown[] = [];
  signalling.on('notification', ({ method }) => heard.push(method));
  signalling.on('interrupted', (interrupted) => heard.push(interrupted));
  signalling.on('close', (closed) => heard.push(closed));
  signalling.keepPlace();
  return { signalling, heard };
}

test('a connection that breaks is replaced, and what was not answered is asked again', async () => {
  const { signalling, heard } = await open();
  const [first] = FakeSocket.all;
  const before = signalling.request('restartIce');
  await settle();
  first?.end(1006);
  const meanwhile = signalling.request('pauseProducer');
  await settle();
  const second = FakeSocket.last;
  assert.equal(second.url, 'ws://server/?resume=true');
  assert.deepEqual(second.sent, [], 'the server knows nobody yet');
  second.notify('resumed');
  await settle();
  second.answer('restartIce', { again: true });
  second.answer('pauseProducer');
  assert.deepEqual(await Promise.all([before, meanwhile]), [{ again: true }, {}]);
  second.notify('newPeer');
  assert.deepEqual(heard, ['resumed', false, 'newPeer']);
  assert.deepEqual(timers, [], 'nothing waits any more');
});

test('what must not be done twice is not asked again', async () => {
  const { signalling } = await open();
  const produced = signalling.requestOnce('produce');
  await settle();
  FakeSocket.last.end(1006);
  await assert.rejects(produced, /lost/);
});

test('an interruption is told of when it takes longer', async () => {
  const { heard } = await open();
  FakeSocket.reachable = false;
  FakeSocket.last.end(1006);
  await settle();
  assert.deepEqual(heard, []);
  FakeSocket.reachable = true;
  await pass(1_000);
  FakeSocket.last.notify('resumed');
  await settle();
  assert.deepEqual(heard, [true, 'resumed', false]);
});

test('a connection may break while it is to replace another, and again after that', async () => {
  const { signalling, heard } = await open();
  FakeSocket.last.end(1006);
  await settle();
  FakeSocket.last.end(1006);
  await settle();
  await pass(1_000);
  FakeSocket.last.notify('resumed');
  await settle();
  FakeSocket.last.end(1006);
  await settle();
  FakeSocket.last.notify('resumed');
  await settle();
  assert.equal(FakeSocket.all.length, 4);
  const request = signalling.request('restartIce');
  await settle();
  FakeSocket.last.answer('restartIce');
  await request;
  assert.deepEqual(heard, [true, 'resumed', false, 'resumed', false]);
});

test('a server that has not kept the place ends it', async () => {
  const { signalling, heard } = await open();
  const request = signalling.request('restartIce');
  await settle();
  FakeSocket.last.end(1006);
  await settle();
  FakeSocket.last.notify('notResumed');
  await assert.rejects(request, /closed/);
  assert.deepEqual(heard, ['notResumed', { code: 1006, reason: 'the server has not kept your place' }]);
  assert.equal(FakeSocket.last.readyState, 3);
  await settle();
  assert.deepEqual(timers, []);
});

test('after some time nothing is left to go on with', async () => {
  const { heard } = await open();
  FakeSocket.reachable = false;
  FakeSocket.last.end(1006);
  await settle();
  await pass(15_000);
  assert.deepEqual(heard, [{ code: 1006, reason: '' }]);
  FakeSocket.reachable = true;
  await pass(1_000);
  assert.equal(FakeSocket.all.length, 2, 'and nobody tries');
});

test('what the server ends, and what has no place yet, is over', async () => {
  const { heard } = await open();
  FakeSocket.last.end(4001, 'the token has expired');
  assert.deepEqual(heard, [{ code: 4001, reason: 'the token has expired' }]);
  const early = await Signalling.open(() => 'ws://server/', () => Promise.resolve());
  const ends: unknown[] = [];
  early.on('close', (closed) => ends.push(closed));
  FakeSocket.last.end(1006);
  assert.deepEqual(ends, [{ code: 1006, reason: '' }]);
  assert.equal(FakeSocket.all.length, 2);
});

test('whoever leaves while the connection is away says so when it is back', async () => {
  const { signalling } = await open();
  FakeSocket.last.end(1006);
  signalling.close();
  await settle();
  assert.deepEqual([FakeSocket.all.length, FakeSocket.last.readyState], [2, 3]);
  assert.deepEqual(timers, []);
});

test('a WebSocket that is not let in gives the words of the server', async () => {
  FakeSocket.reachable = false;
  const opening = () => Signalling.open(() => 'ws://server/', () => Promise.resolve());
  await assert.rejects(opening, /cannot be reached/);
  mock.method(globalThis, 'fetch', () => Promise.resolve(new Response('the token has expired', { status: 401 })));
  await assert.rejects(opening, new RequestError('admission', 401, 'the token has expired'));
});
