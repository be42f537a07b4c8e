import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REACTIONS, Signals } from '../src/data/signals';
import { RequestError } from '../src/protoo';
import { CLEAR, FakeMeeting, FakeSession, pass, stopTime } from './fake-data';

stopTime();

const MOMENT_MS = 1_000;

async function signalling(random = 0.5) {
  const meeting = new FakeMeeting();
  const signals = new Signals(meeting.real, CLEAR, () => random);
  const seen: unknown[] = [];
  signals.on('hand', ({ peerId, up }) => seen.push([peerId, up]));
  signals.on('reaction', ({ peerId, reaction }) => seen.push([peerId, reaction]));
  const session = await meeting.begin(new FakeSession());
  return { meeting, signals, seen, session };
}

/** What was sent, read. */
const sent = (session: FakeSession) => (session.producer?.sent ?? []).map((text) => JSON.parse(String(text)) as object);

test('a hand goes up and down for all, in one order', async () => {
  const { signals, seen, session } = await signalling();
  await session.hear('ann', 'signals', '{"hand":true}');
  await pass(500);
  signals.setHand(true);
  await pass(MOMENT_MS);
  // Of whoever was heard late, it is known for how long it has been up.
  await session.hear('ben', 'signals', '{"hand":true,"forMs":60000}');
  assert.deepEqual(signals.hands, ['ben', 'ann', 'me']);
  assert.deepEqual(sent(session), [{ hand: true, forMs: 0 }]);
  await session.hear('ann', 'signals', '{"hand":true,"forMs":900000}');
  assert.deepEqual(signals.hands, ['ben', 'ann', 'me'], 'told again, nothing changes');
  signals.setHand(false);
  await session.hear('ben', 'signals', '{"hand":false}');
  assert.deepEqual(sent(session).slice(1), [{ hand: false }]);
  assert.deepEqual(seen, [['ann', true], ['me', true], ['ben', true], ['me', false], ['ben', false]]);
  assert.deepEqual(signals.hands, ['ann']);
});

test('whoever comes is told of a hand that is up, a moment later, and many at once', async () => {
  const { signals, session } = await signalling();
  session.arrive(2);
  await pass(60_000);
  assert.equal(session.producers.length, 0);
  signals.setHand(true);
  await pass(MOMENT_MS);
  assert.equal(sent(session).length, 1);
  for (let people = 3; people < 10; people++) session.arrive(people);
  await pass(900);
  assert.equal(sent(session).length, 1, 'they may not be ready');
  await pass(2_000);
  assert.equal(sent(session).length, 2);
  // Of the others who came it is not known whether they were.
  await pass(5_000);
  assert.equal(sent(session).length, 3);
  await pass(60_000);
  assert.equal(sent(session).length, 3);
  assert.deepEqual(sent(session).at(-1), { hand: true, forMs: MOMENT_MS + 2 * 1_530 });
});

test('in a large room it is told more seldom, and not when the hand is down', async () => {
  const { signals, session } = await signalling(1);
  signals.setHand(true);
  await pass(MOMENT_MS);
  session.arrive(5_000);
  await pass(30_000);
  assert.equal(sent(session).length, 1);
  await pass(1_000);
  assert.equal(sent(session).length, 2);
  session.arrive(5_001);
  signals.setHand(false);
  await pass(60_000);
  assert.deepEqual(sent(session).slice(2), [{ hand: false }]);
});

test('a hand stays up in the next session, and those of others are told there anew', async () => {
  const { meeting, signals, session } = await signalling();
  await session.hear('ann', 'signals', '{"hand":true}');
  signals.setHand(true);
  await pass(MOMENT_MS);
  await session.end('ann', 'signals');
  session.close();
  assert.deepEqual(signals.hands, ['me']);
  const next = await meeting.begin(new FakeSession());
  await pass(MOMENT_MS);
  assert.deepEqual(sent(next), [{ hand: true, forMs: MOMENT_MS }]);
  next.producer?.close();
  await pass(2_000);
  await pass(MOMENT_MS);
  assert.deepEqual([next.producers.length, sent(next).length], [2, 1], 'and over another data producer');
});

test('whoever goes has no hand up, whichever channel tells it', async () => {
  const { signals, session } = await signalling();
  await session.hear('ann', 'signals', '{"hand":true}');
  await session.end('ann', 'chat');
  assert.deepEqual(signals.hands, ['ann']);
  await session.end('ann', 'signals');
  assert.deepEqual(signals.hands, []);
});

test('reactions are seen, not too many, and none that comes too late', async () => {
  const { meeting, signals, seen, session } = await signalling();
  signals.prepare();
  await pass(MOMENT_MS);
  signals.react('👍');
  signals.react('👍');
  await pass(300);
  signals.react('🎉');
  await pass(0);
  assert.deepEqual(sent(session), [{ reaction: '👍' }, { reaction: '🎉' }]);
  await session.hear('ann', 'signals', '{"reaction":"👏"}');
  assert.deepEqual(seen, [['me', '👍'], ['me', '🎉'], ['ann', '👏']]);
  session.close();
  await pass(300);
  signals.react('👍');
  await pass(10_000);
  const next = await meeting.begin(new FakeSession());
  await pass(MOMENT_MS);
  assert.deepEqual(sent(next), []);
});

test('what is no such message is ignored', async () => {
  const { signals, seen, session } = await signalling();
  const long = JSON.stringify({ hand: true, more: 'x'.repeat(300) });
  for (const text of ['', 'hello', 'null', '5', '[]', '{"hand":1}', '{"reaction":"<b>"}', '{"reaction":["👍"]}', '{"wave":true}', long]) {
    await session.hear('ann', 'signals', text);
  }
  await session.hear('ann', 'signals', new ArrayBuffer(10));
  assert.deepEqual([seen, signals.hands], [[], []]);
  await session.hear('ann', 'signals', '{"hand":true,"forMs":-5}');
  await session.hear('ben', 'signals', '{"hand":true,"forMs":1e300}');
  await session.hear('cem', 'signals', '{"hand":true,"forMs":"x"}');
  assert.deepEqual(signals.hands, ['ben', 'ann', 'cem']);
  assert.equal(new Set(REACTIONS).size, REACTIONS.length);
});

test('a hand that the server refuses to show is down', async () => {
  const { signals, session } = await signalling();
  const problems: string[] = [];
  signals.on('refused', (problem) => problems.push(problem));
  session.failures.push(new RequestError('produceData', 403, 'the token does not grant it'));
  signals.setHand(true);
  await pass(MOMENT_MS);
  assert.deepEqual([problems, signals.handIsUp], [['the token does not grant it'], false]);
});
