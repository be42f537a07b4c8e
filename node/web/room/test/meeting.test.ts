import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { Meeting } from '../src/meeting';
import { RequestError, type Closed } from '../src/protoo';
import { StaleCapabilities, type Session, type SessionOptions } from '../src/session';

Object.assign(globalThis, { addEventListener: () => {}, removeEventListener: () => {} });

/** A session that does what the test says. */
class FakeSession {
  closed = false;
  private listener: ((how: Closed) => void) | undefined;

  on(event: string, listener: (how: Closed) => void): void {
    if (event === 'closed') this.listener = listener;
  }

  end(code: number, reason = ''): void {
    if (this.closed) return;
    this.closed = true;
    this.listener?.({ code, reason });
  }

  close(): void {
    this.end(1000);
  }
}

/** What the next attempts to join come to: nothing is a session. */
let outcomes: (Error | undefined)[] = [];
let sessions: FakeSession[] = [];
/** Pauses asked for, with what happens after them. */
let pauses: { ms: number; run: () => void }[] = [];

beforeEach(() => {
  outcomes = [];
  sessions = [];
  pauses = [];
  mock.method(globalThis, 'setTimeout', ((run: () => void, ms: number) => pauses.push({ ms, run })) as never);
});

afterEach(() => mock.restoreAll());

function meeting(): Meeting {
  const join = (_options: SessionOptions, observe: (session: Session) => void): Promise<Session> => {
    const session = new FakeSession() as FakeSession & Session;
    sessions.push(session);
    observe(session);
    const outcome = outcomes.shift();
    return outcome ? Promise.reject(outcome) : Promise.resolve(session);
  };
  return new Meeting({} as SessionOptions, 'me', join);
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('a lost connection is made anew after a pause', async () => {
  const subject = meeting();
  subject.start();
  await settle();
  assert.equal(subject.state.name, 'joined');
  sessions[0]?.end(1006);
  assert.deepEqual([subject.state.name, pauses.map(({ ms }) => ms)], ['waiting', [1_000]]);
  pauses[0]?.run();
  await settle();
  assert.deepEqual([subject.state.name, sessions.length], ['joined', 2]);
});

test('pauses grow while the server is away, and are short again after it was there', async () => {
  const subject = meeting();
  outcomes = Array.from({ length: 5 }, () => new Error('the server cannot be reached'));
  subject.start();
  await settle();
  for (let attempt = 0; attempt < 5; attempt++) {
    pauses[attempt]?.run();
    await settle();
  }
  assert.deepEqual(pauses.map(({ ms }) => ms), [1_000, 2_000, 4_000, 8_000, 8_000]);
  assert.equal(subject.state.name, 'joined');
  sessions[5]?.end(1006);
  assert.equal(pauses[5]?.ms, 1_000);
});

test('whoever leaves does not come back by itself', async () => {
  const subject = meeting();
  subject.start();
  await settle();
  subject.leave();
  assert.equal(sessions[0]?.closed, true);
  assert.deepEqual(pauses, []);
});

test('leaving while joining ends the session that comes of it', async () => {
  const subject = meeting();
  subject.start();
  subject.leave();
  await settle();
  assert.equal(sessions[0]?.closed, true);
  assert.deepEqual(pauses, []);
});

test('being replaced is the end', async () => {
  const subject = meeting();
  subject.start();
  await settle();
  sessions[0]?.end(4000, 'the same peer joined again');
  assert.deepEqual([subject.state.name, pauses], ['over', []]);
  assert.match(subject.state.name === 'over' ? subject.state.title : '', /another tab/);
});

test('what the server refuses is not tried again', async () => {
  const subject = meeting();
  outcomes = [new RequestError('join', 403, 'the room is full')];
  subject.start();
  await settle();
  assert.deepEqual(subject.state, { name: 'over', title: 'The server did not let you in', reason: 'the room is full' });
});

test('whoever loses the right to be there is told why, and does not come back', async () => {
  const subject = meeting();
  subject.start();
  await settle();
  sessions[0]?.end(4001, 'the token was revoked');
  assert.deepEqual(subject.state, { name: 'over', title: 'The server ended your visit', reason: 'the token was revoked' });
  assert.deepEqual(pauses, []);
});

test('a server that is busy says when to come back', async () => {
  const subject = meeting();
  subject.start();
  await settle();
  sessions[0]?.end(1013, 'the room is busy: come back in 734 ms');
  const { state } = subject;
  assert.deepEqual(state.name === 'waiting' && [state.title, state.reason], ['The server asks you to wait', 'the room is busy']);
  pauses[0]?.run();
  await settle();
  sessions[1]?.end(1013, 'the room is busy: come back in 99999999999999 ms');
  pauses[1]?.run();
  await settle();
  sessions[2]?.end(1013, 'the room is full');
  assert.deepEqual(pauses.map(({ ms }) => ms), [734, 60_000, 1_000]);
});

test('being one of too many is no refusal', async () => {
  const subject = meeting();
  outcomes = [new RequestError('admission', 429, 'the address opens too many WebSockets'), new RequestError('admission', 503, 'busy')];
  subject.start();
  await settle();
  pauses[0]?.run();
  await settle();
  pauses[1]?.run();
  await settle();
  assert.deepEqual([subject.state.name, pauses.map(({ ms }) => ms)], ['joined', [1_000, 2_000]]);
});

test('capabilities that have changed cost one more connection and nothing else', async () => {
  const subject = meeting();
  outcomes = [new StaleCapabilities()];
  subject.start();
  await settle();
  assert.deepEqual([subject.state.name, sessions.length, pauses], ['joined', 2, []]);
});
