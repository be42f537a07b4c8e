/** Browsers ask people for camera and microphone, and people take their time. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser, type BrowserContext } from '@sluice/web-kit/harness/browser';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'patience';

/** How long the person thinks. */
const ANSWERED_AFTER_MS = 15_000;

let mesh: Mesh;
let browser: Browser;

before(async () => {
  mesh = await Mesh.dev('prompt', 1);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

/** The browser's question stays open for a while. */
function hesitate(context: BrowserContext): Promise<unknown> {
  return context.addInitScript((ms) => {
    const { mediaDevices } = navigator;
    const ask = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (constraints) => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return ask(constraints);
    };
  }, ANSWERED_AFTER_MS);
}

test('whoever answers the question for devices late is seen and heard all the same', async () => {
  const url = mesh.nodes[0]?.users ?? '';
  const alice = await Person.join(browser, 'Alice', url, ROOM);
  await alice.inRoom();
  const query = new URLSearchParams({ roomId: ROOM, displayName: 'Bob' });
  const bob = await Person.open(browser, 'Bob', `${url}/?${query}`, hesitate);
  await bob.inRoom();
  await bob.seesAndHears('Alice');
  await alice.tile('Bob').locator('.avatar').waitFor({ state: 'visible' });
  await bob.screenshot('question-for-devices');
  await alice.seesAndHears('Bob');
  assert.deepEqual([...alice.errors, ...bob.errors], []);
});
