import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chat, LONGEST_TEXT, partsOf, problemOf } from '../src/data/chat';
import { ConnectionLost, RequestError } from '../src/protoo';
import { CLEAR, FakeMeeting, FakeSession, pass, stopTime } from './fake-data';

stopTime();

/** Longer than it takes until a data producer is heard. */
const MOMENT_MS = 1_000;

/** Longer than it takes until one that ended is replaced, and the new one heard. */
const REPLACED_MS = 3_000;

async function chatting() {
  const meeting = new FakeMeeting();
  const chat = new Chat(meeting.real, CLEAR, 'Me');
  const session = await meeting.begin(new FakeSession());
  return { meeting, chat, session };
}

const states = (chat: Chat) => chat.messages.map(({ text, state }) => [text, state]);

test('there is no data producer before it is needed, and what is written waits for it', async () => {
  const { chat, session } = await chatting();
  assert.equal(session.producers.length, 0);
  session.holds = true;
  assert.equal(chat.send(' hello '), undefined);
  await pass(0);
  assert.equal(session.producer?.label, 'chat');
  assert.deepEqual(session.producer?.sent, ['hello'], 'the server keeps it for those who are only offered it');
  chat.send('again');
  await pass(0);
  assert.deepEqual(session.producer?.sent, ['hello', 'again']);
  assert.deepEqual(states(chat), [['hello', 'sending'], ['again', 'sending']]);
  await session.producer?.drain();
  assert.deepEqual(states(chat), [['hello', 'sent'], ['again', 'sent']]);
});

test('whoever writes is heard at once when it is done', async () => {
  const { chat, session } = await chatting();
  chat.prepare();
  await pass(MOMENT_MS);
  chat.send('hello');
  await pass(0);
  assert.deepEqual(session.producer?.sent, ['hello']);
  assert.equal(session.producers.length, 1);
});

test('what was not sent when a session ends goes out in the next one', async () => {
  const { meeting, chat, session } = await chatting();
  session.holds = true;
  chat.send('sent');
  await pass(MOMENT_MS);
  await session.producer?.drain();
  chat.send('handed');
  await pass(0);
  session.close();
  chat.send('waiting');
  assert.deepEqual(states(chat), [['sent', 'sent'], ['handed', 'sending'], ['waiting', 'sending']]);
  const next = await meeting.begin(new FakeSession());
  await pass(MOMENT_MS);
  assert.deepEqual(next.producer?.sent, ['handed', 'waiting']);
  assert.deepEqual(states(chat).map(([, state]) => state), ['sent', 'sent', 'sent']);
});

test('a data producer that ended is replaced, and one whose answer was lost is asked for again', async () => {
  const { chat, session } = await chatting();
  session.failures.push(new ConnectionLost('lost'));
  chat.send('one');
  await pass(REPLACED_MS);
  await pass(REPLACED_MS);
  assert.deepEqual(session.producer?.sent, ['one']);
  session.producer?.close();
  await pass(REPLACED_MS);
  assert.equal(session.producers.length, 1, 'nobody needs it');
  chat.send('two');
  await pass(MOMENT_MS);
  assert.deepEqual(session.producers.map(({ sent }) => sent), [['one'], ['two']]);
});

test('what the server refuses has failed, in its words', async () => {
  const { chat, session } = await chatting();
  session.failures.push(new RequestError('produceData', 403, 'the token does not grant it'));
  chat.send('hello');
  await pass(MOMENT_MS);
  assert.deepEqual(chat.messages.map(({ state, problem }) => [state, problem]), [['failed', 'the token does not grant it']]);
  await pass(60_000);
  assert.equal(session.producers.length, 0, 'it is not asked again unasked');
});

test('the browser is given no more than it can send soon', async () => {
  const { chat, session } = await chatting();
  session.holds = true;
  chat.prepare();
  await pass(MOMENT_MS);
  const text = 'x'.repeat(LONGEST_TEXT);
  for (let count = 0; count < 20; count++) assert.equal(chat.send(text), undefined);
  await pass(0);
  const handed = session.producer?.sent.length ?? 0;
  assert.ok(handed > 10 && handed < 20, `${handed} were handed over`);
  await session.producer?.drain();
  assert.equal(session.producer?.sent.length, 20);
});

test('so many wait, and whoever writes more is told', async () => {
  const { chat, session } = await chatting();
  session.close();
  let problem: string | undefined;
  let count = 0;
  while ((problem = chat.send(`${count}`)) === undefined) count++;
  assert.match(problem, /waits to be sent/);
  assert.deepEqual([count, chat.messages.length], [20, 20]);
});

test('texts are limited, in words that say by how much', () => {
  assert.equal(problemOf('x'.repeat(LONGEST_TEXT)), undefined);
  assert.match(problemOf(`${'x'.repeat(LONGEST_TEXT)}y`) ?? '', /leave out 1 character\./);
  assert.match(problemOf('x'.repeat(LONGEST_TEXT + 20)) ?? '', /leave out 20 characters\./);
  assert.match(problemOf(' \n') ?? '', /nothing/);
});

test('messages are of who sent them, also if that becomes known later', async () => {
  const { chat, session } = await chatting();
  session.name('ann', 'Ann');
  await session.hear('ann', 'chat', 'hi');
  await session.hear('ben', 'chat', 'hello');
  await session.hear('ann', 'signals', '{"hand":true}');
  assert.deepEqual(chat.messages.map(({ name, text }) => [name, text]), [['Ann', 'hi'], ['', 'hello']]);
  session.name('ben', 'Ben');
  session.peers.delete('ann');
  session.name('ann', 'Anna');
  assert.deepEqual(chat.messages.map(({ name }) => name), ['Ann', 'Ben']);
});

test('what is too long or too much is cut, and what has another key is shown as such', async () => {
  const { chat, session } = await chatting();
  await session.hear('ann', 'chat', 'x'.repeat(100_000));
  assert.equal(chat.messages[0]?.text?.length, LONGEST_TEXT + 1);
  await session.hear('ann', 'chat', new ArrayBuffer(40));
  assert.deepEqual([chat.messages[1]?.text, chat.messages[1]?.encrypted], [undefined, true]);
  for (let count = 0; count < 600; count++) await session.hear('ann', 'chat', `${count}`);
  assert.equal(chat.messages.length, 500);
  assert.deepEqual([chat.messages[0]?.text, chat.messages.at(-1)?.text], ['100', '599']);
});

test('addresses of pages are links', () => {
  const links = (text: string) => partsOf(text).filter(({ isLink }) => isLink).map(({ text }) => text);
  assert.deepEqual(links('see https://example.org/a?b=c#d, or (http://example.com).'), ['https://example.org/a?b=c#d', 'http://example.com']);
  assert.deepEqual(links('javascript:alert(1) ftp://x https:// mailto:a@b'), []);
  const text = 'a https://example.org/<b> "c"';
  assert.equal(partsOf(text).map(({ text }) => text).join(''), text);
});
