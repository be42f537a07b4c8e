/** A WebSocket that breaks while media go on: the person comes back, and the others do not notice. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Relay } from '@sluice/web-kit/harness/relay';
import { Person } from '../harness/person';

const ROOM = 'resuming';

let mesh: Mesh;
let relay: Relay;
let browser: Browser;
let alice: Person;
let bob: Person;
let chen: Person;

before(async () => {
  mesh = await Mesh.dev('broken-connection', 1);
  const users = mesh.nodes[0]?.users ?? '';
  relay = await Relay.to(Number(new URL(users).port));
  browser = await launch();
  alice = await Person.join(browser, 'Alice', `http://127.0.0.1:${relay.port}`, ROOM);
  [bob, chen] = await Promise.all([Person.join(browser, 'Bob', users, ROOM), Person.join(browser, 'Chen', users, ROOM)]);
  await Promise.all([alice, bob, chen].map((person) => person.inRoom()));
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  await Promise.all([alice.markTile('Bob'), bob.markTile('Alice')]);
});

after(async () => {
  await browser?.close();
  relay?.close();
  await mesh?.stop();
});

/** Bob and Alice have never left for each other. */
async function assertTogether(of: { alice: string; bob: string }): Promise<void> {
  assert.ok((await alice.hasMarkedTile('Bob')) && (await bob.hasMarkedTile('Alice')), 'both have stayed');
  assert.deepEqual({ alice: (await bob.progressOf('Alice')).of, bob: (await alice.progressOf('Bob')).of }, of, 'the same consumers');
}

async function consumers(): Promise<{ alice: string; bob: string }> {
  return { alice: (await bob.progressOf('Alice')).of, bob: (await alice.progressOf('Bob')).of };
}

test('a connection that breaks is made anew at once, and what was there goes on', async () => {
  const before = await consumers();
  relay.break();
  relay.mend();
  await eventually('Alice has another WebSocket', () => alice.sockets > 1);
  // It works in both directions.
  await alice.page.getByRole('button', { name: 'Mute microphone' }).click();
  await bob.tile('Alice').locator('.muted').waitFor({ state: 'visible' });
  await alice.page.getByRole('button', { name: 'Unmute microphone' }).click();
  await bob.tile('Alice').locator('.muted').waitFor({ state: 'hidden' });
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  await assertTogether(before);
});

test('while the connection is away media go on, and afterwards the page catches up', async () => {
  const before = await consumers();
  relay.break();
  await Promise.all([alice.seesAndHears('Bob', 5), bob.seesAndHears('Alice', 5)]);
  await alice.page.getByText('Reconnecting…').waitFor();
  await alice.screenshot('reconnecting');
  // All of this Alice must hear of later, and Bob of what she does.
  await chen.close();
  await bob.page.getByRole('button', { name: 'Mute microphone' }).click();
  const dana = await Person.join(browser, 'Dana', mesh.nodes[0]?.users ?? '', ROOM);
  await dana.inRoom();
  await alice.page.getByRole('button', { name: 'Turn camera off' }).click();
  relay.mend();
  await alice.tile('Chen').waitFor({ state: 'detached' });
  await alice.tile('Bob').locator('.muted').waitFor({ state: 'visible' });
  await bob.tile('Alice').locator('.avatar').waitFor({ state: 'visible' });
  await alice.page.getByText('Reconnecting…').waitFor({ state: 'detached' });
  await Promise.all([alice.seesAndHears('Dana'), dana.tile('Alice').waitFor()]);
  await alice.page.getByRole('button', { name: 'Turn camera on' }).click();
  await bob.page.getByRole('button', { name: 'Unmute microphone' }).click();
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice'), dana.seesAndHears('Alice')]);
  await assertTogether(before);
});

test('no page has complained of anything but the connection', () => {
  assert.deepEqual(bob.errors, []);
  assert.deepEqual(alice.errors.filter((text) => !text.startsWith('WebSocket connection to')), []);
});
