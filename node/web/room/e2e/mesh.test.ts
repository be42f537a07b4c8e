/** Three people on three nodes of one `sluice dev` mesh meet in a room. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'three regions';

let mesh: Mesh;
let browser: Browser;
let alice: Person;
let bob: Person;
let chen: Person;

const node = (index: number): string => mesh.nodes[index]?.users ?? '';

before(async () => {
  mesh = await Mesh.dev('mesh', 3);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

test('the lobby takes a name and a room by hand, and joins', async () => {
  alice = await Person.open(browser, 'Alice', `${node(0)}/`);
  const { page } = alice;
  await page.getByLabel('Your name').fill('Alice');
  await page.getByLabel('Room').fill(ROOM);
  await eventually('the camera is listed', async () => (await page.getByLabel('Camera', { exact: true }).locator('option').count()) > 0);
  await eventually('the preview plays', () =>
    page.evaluate(() => (document.querySelector<HTMLVideoElement>('.preview video')?.videoWidth ?? 0) > 0),
  );
  await alice.screenshot('lobby');
  await page.getByRole('button', { name: 'Join the room' }).click();
  await alice.inRoom();
  await page.getByText('Nobody else is here yet').waitFor();
});

test('an address with room and name joins at once', async () => {
  [bob, chen] = await Promise.all([
    Person.join(browser, 'Bob', node(1), ROOM),
    Person.join(browser, 'Chen', node(2), ROOM),
  ]);
  await Promise.all([bob.inRoom(), chen.inRoom()]);
});

test('everybody sees and hears everybody else, through the mesh', async () => {
  const people = [alice, bob, chen];
  const pairs = people.flatMap((person) => people.filter((other) => other !== person).map((other) => [person, other] as const));
  await Promise.all(pairs.map(([person, other]) => person.seesAndHears(other.name)));
  for (const [person, other] of pairs) {
    const consumers = (await person.consumers()).filter(({ name }) => name === other.name);
    assert.deepEqual(consumers.map(({ hops }) => hops), [1, 1], `${person.name} receives ${other.name} over one pipe`);
  }
});

test('media are encrypted with AES-128-GCM in both directions', async () => {
  for (const person of [alice, bob, chen]) {
    const ciphers = await person.ciphers();
    assert.equal(ciphers.length, 2, `${person.name} has a transport each way`);
    // Some versions of Chromium write IANA's prefix, some do not.
    for (const cipher of ciphers) assert.match(String(cipher), /^(SRTP_)?AEAD_AES_128_GCM$/, person.name);
  }
});

test('tiles tell name, region and node', async () => {
  const places = await Promise.all([bob, chen].map(({ name }) => alice.tile(name).locator('.place').innerText()));
  for (const place of places) assert.match(place, /^\S+ · \S+$/);
  assert.notEqual(places[0], places[1]);
});

test('the stats overlay has the figures', async () => {
  await bob.page.keyboard.press('i');
  const figures = bob.tile('Alice').locator('.figures');
  await eventually('figures are complete', async () => {
    const text = await figures.innerText();
    return [/\d+ × \d+ · [1-9]\d* fps/, /[1-9][\d.]* .bit\/s · VP8/, /[1-9][\d.]* .bit\/s · opus/i, /Loss\s+\d/, /RTT\s+\d.* ms/, /Node\s+\S/, /Hops\s+1/].every((pattern) =>
      pattern.test(text),
    );
  });
  await bob.screenshot('three-people-with-stats');
  await bob.page.keyboard.press('i');
  await figures.waitFor({ state: 'hidden' });
});

test('a muted microphone and a switched-off camera show, and come back', async () => {
  const { page } = alice;
  await page.getByRole('button', { name: 'Mute microphone' }).click();
  await page.getByRole('button', { name: 'Turn camera off' }).click();
  for (const person of [bob, chen]) {
    await person.tile('Alice').locator('.muted').waitFor({ state: 'visible' });
    await person.tile('Alice').locator('.avatar').waitFor({ state: 'visible' });
  }
  await bob.screenshot('alice-muted');
  await page.getByRole('button', { name: 'Unmute microphone' }).click();
  await page.getByRole('button', { name: 'Turn camera on' }).click();
  for (const person of [bob, chen]) {
    await person.tile('Alice').locator('.muted').waitFor({ state: 'hidden' });
    await person.tile('Alice').locator('.avatar').waitFor({ state: 'hidden' });
    await person.seesAndHears('Alice');
  }
});

test('somebody on the same node is received without a pipe', async () => {
  const dana = await Person.join(browser, 'Dana', node(0), ROOM, { video: '0' });
  await dana.inRoom();
  await dana.seesAndHears('Alice');
  assert.deepEqual([...new Set((await dana.consumers()).filter(({ name }) => name === 'Alice').map(({ hops }) => hops))], [0]);
  await bob.tile('Dana').locator('.avatar').waitFor({ state: 'visible' });
  assert.deepEqual(dana.errors, []);
  await dana.close();
  for (const person of [alice, bob, chen]) await person.tile('Dana').waitFor({ state: 'detached' });
});

test('a reloaded page takes its own place again', async () => {
  await bob.page.reload();
  await bob.inRoom();
  await Promise.all([bob.seesAndHears('Alice'), alice.seesAndHears('Bob')]);
  assert.equal(await alice.tile('Bob').count(), 1);
});

test('the same person in a copy of the tab replaces the first', async () => {
  const first = await Person.join(browser, 'Eve', node(1), ROOM, { peerId: 'eve', video: '0' });
  await first.inRoom();
  const second = await first.copyTab();
  await second.inRoom();
  await first.page.getByRole('alertdialog', { name: 'You joined from another tab' }).waitFor();
  await first.screenshot('replaced');
  await second.close();
  await alice.tile('Eve').waitFor({ state: 'detached' });
});

test('a stranger with the name of somebody who is there is not let in', async () => {
  const eve = await Person.join(browser, 'Eve', node(1), ROOM, { peerId: 'eve', video: '0' });
  await eve.inRoom();
  const stranger = await Person.join(browser, 'Mallory', node(2), ROOM, { peerId: 'eve', video: '0' });
  const refusal = stranger.page.getByRole('alertdialog', { name: 'The server did not let you in' });
  await refusal.getByText('the peer is in the room already').waitFor();
  await stranger.screenshot('not-let-in');
  assert.equal(await eve.state(), 'joined');
  await Promise.all([stranger.close(), eve.close()]);
  await alice.tile('Eve').waitFor({ state: 'detached' });
});

test('whoever leaves is gone for the others, and back in the lobby', async () => {
  await chen.page.getByRole('button', { name: 'Leave the room' }).click();
  await chen.page.getByRole('button', { name: 'Join the room' }).waitFor();
  for (const person of [alice, bob]) await person.tile('Chen').waitFor({ state: 'detached' });
  await alice.seesAndHears('Bob');
});

test('whoever has left can come again', async () => {
  await chen.page.getByRole('button', { name: 'Join the room' }).click();
  await chen.inRoom();
  await Promise.all([chen.seesAndHears('Alice'), alice.seesAndHears('Chen'), bob.seesAndHears('Chen')]);
  assert.equal(await alice.tile('Chen').count(), 1);
});

test('no page has complained', () => {
  for (const person of [alice, bob, chen]) assert.deepEqual(person.errors, [], person.name);
});
