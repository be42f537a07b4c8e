/** People without camera and microphone, and on a telephone, can take part too. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'listeners';

let mesh: Mesh;
let equipped: Browser;
let bare: Browser;

before(async () => {
  mesh = await Mesh.dev('devices', 1);
  [equipped, bare] = await Promise.all([launch(), launch({ devices: false })]);
});

after(async () => {
  await Promise.all([equipped?.close(), bare?.close()]);
  await mesh?.stop();
});

test('without any device the page says so, and one joins, sees and hears', async () => {
  const url = mesh.nodes[0]?.users ?? '';
  const alice = await Person.join(equipped, 'Alice', url, ROOM);
  const bob = await Person.open(bare, 'Bob', `${url}/?roomId=${ROOM}`);
  await bob.page.getByText('No camera was found.').waitFor();
  await bob.page.getByText('No microphone was found.').waitFor();
  await bob.screenshot('lobby-without-devices');
  await bob.page.getByLabel('Your name').fill('Bob');
  await bob.page.getByRole('button', { name: 'Join the room' }).click();
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await bob.seesAndHears('Alice');
  await alice.tile('Bob').locator('.muted').waitFor({ state: 'visible' });
  await alice.tile('Bob').locator('.avatar').waitFor({ state: 'visible' });
  assert.deepEqual([...alice.errors, ...bob.errors], []);
});

test('on a telephone everything is within the screen', async () => {
  const carol = await Person.join(equipped, 'Carol', mesh.nodes[0]?.users ?? '', ROOM);
  await carol.page.setViewportSize({ width: 360, height: 720 });
  await carol.inRoom();
  await carol.seesAndHears('Alice');
  await eventually('three tiles are shown', async () => (await carol.page.locator('.tile').count()) === 3);
  await eventually('nothing is wider than the screen', () =>
    carol.page.evaluate(() => [...document.querySelectorAll('.tile, .round, .bar')].every((element) => {
      const { left, right } = element.getBoundingClientRect();
      return left >= 0 && right <= innerWidth;
    })),
  );
  await carol.screenshot('telephone');
  assert.deepEqual(carol.errors, []);
});
