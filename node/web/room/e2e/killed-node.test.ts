/** Three `sluice node` processes: one is killed, and comes back. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'resilience';

/** Within this time after a node's death its people are gone for the others. */
const GONE_WITHIN_MS = 5_000;

let mesh: Mesh;
let browser: Browser;
let alice: Person;
let bob: Person;
let chen: Person;

before(async () => {
  mesh = await Mesh.processes('killed-node', 3);
  browser = await launch();
  const people = ['Alice', 'Bob', 'Chen'].map((name, index) => Person.join(browser, name, mesh.nodes[index]?.users ?? '', ROOM));
  [alice, bob, chen] = (await Promise.all(people)) as [Person, Person, Person];
  await Promise.all([alice, bob, chen].map((person) => person.inRoom()));
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

test('the processes form one mesh', async () => {
  await Promise.all([
    alice.seesAndHears('Bob'),
    alice.seesAndHears('Chen'),
    bob.seesAndHears('Alice'),
    bob.seesAndHears('Chen'),
    chen.seesAndHears('Alice'),
    chen.seesAndHears('Bob'),
  ]);
});

test('people of a killed node go, and the others play on', async () => {
  const before = await alice.progressOf('Bob');
  await mesh.killNode(2);
  const died = performance.now();
  await Promise.all([alice, bob].map((person) => person.tile('Chen').waitFor({ state: 'detached', timeout: GONE_WITHIN_MS })));
  const elapsed = performance.now() - died;
  assert.ok(elapsed < GONE_WITHIN_MS, `gone after ${Math.round(elapsed)} ms`);
  const now = await alice.progressOf('Bob');
  assert.ok(now.frames > before.frames, 'Bob went on meanwhile');
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
});

test('people of the killed node are told, and join again when it is back', async () => {
  await chen.page.getByRole('alertdialog').waitFor();
  await chen.page.getByText(/Trying again/).waitFor();
  await chen.screenshot('connection-lost');
  mesh.startNode(2);
  await mesh.ready();
  await eventually('Chen is back', async () => (await chen.state()) === 'joined', 20_000);
  await Promise.all([alice.seesAndHears('Chen'), chen.seesAndHears('Alice'), bob.seesAndHears('Chen')]);
});

test('no page has complained of anything but the dead node', () => {
  assert.deepEqual([...alice.errors, ...bob.errors], []);
  // Which answers neither the WebSocket nor the question why.
  const ofDeadNode = /^WebSocket connection to|^Failed to load resource: net::ERR_CONNECTION_REFUSED/;
  assert.deepEqual(chen.errors.filter((text) => !ofDeadNode.test(text)), []);
});
