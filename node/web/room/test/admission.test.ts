import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { refusalOf } from '../src/admission';

/** Lets the server answer so; gives what it is asked. */
function answering(answer: () => Response): string[] {
  const asked: string[] = [];
  mock.method(globalThis, 'fetch', (url: URL) => {
    asked.push(url.href);
    return Promise.resolve().then(answer);
  });
  return asked;
}

test('the server is asked with the query of the WebSocket, and its words are given', async () => {
  const asked = answering(() => new Response('the token has expired\n', { status: 401 }));
  const refusal = await refusalOf('wss://meet.example/?roomId=a%26b&token=t');
  assert.deepEqual(asked, ['https://meet.example/v1/admission?roomId=a%26b&token=t']);
  assert.deepEqual([refusal?.code, refusal?.message], [401, 'the token has expired']);
});

test('what does not speak of the person is no refusal', async () => {
  const page = { 'content-type': 'text/html' };
  for (const answer of [
    () => new Response(null, { status: 204 }),
    () => new Response('not found', { status: 404 }),
    () => new Response('<h1>503</h1>', { status: 503, headers: page }),
    () => {
      throw new TypeError('the server cannot be reached');
    },
  ]) {
    answering(answer);
    assert.equal(await refusalOf('ws://server/'), undefined);
  }
});
