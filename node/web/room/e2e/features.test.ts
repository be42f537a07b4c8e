/** What people do in a room beside seeing and hearing: choose qualities, share screens, encrypt, set the page up, use the keyboard. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'features';

let mesh: Mesh;
let browser: Browser;
let alice: Person;
let bob: Person;

before(async () => {
  mesh = await Mesh.dev('features', 2);
  browser = await launch();
  [alice, bob] = await Promise.all([Person.join(browser, 'Alice', node(0), ROOM), Person.join(browser, 'Bob', node(1), ROOM)]);
  await Promise.all([alice.inRoom(), bob.inRoom()]);
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

function node(index: number): string {
  return mesh.nodes[index]?.users ?? '';
}

/** Which encodings of the camera a person sends, the smallest first. */
async function sent(person: Person): Promise<unknown[]> {
  const { send } = await person.stats();
  const encodings = send.filter((entry) => entry['type'] === 'outbound-rtp' && typeof entry['rid'] === 'string');
  return encodings.sort((a, b) => String(a['rid']).localeCompare(String(b['rid']))).map((entry) => entry['active']);
}

test('whoever chooses a quality gets that picture, and the sender encodes no more than is looked at', async () => {
  for (const [quality, width, encodings] of [
    ['low', 320, [true, false, false]],
    ['medium', 640, [true, true, false]],
    ['high', 1_280, [true, false, true]],
  ] as const) {
    await bob.choose('Alice', quality);
    await eventually(`the picture is ${quality}`, async () => (await bob.width('Alice')) === width, 30_000);
    await eventually(`the sender knows of ${quality}`, async () => String(await sent(alice)) === String(encodings));
    await eventually('the tile tells it', async () =>
      (await bob.tile('Alice').locator('.quality option').first().textContent()) === `Auto · ${quality}`);
  }
  await bob.choose('Alice', 'auto');
  await bob.page.setViewportSize({ width: 420, height: 760 });
  await eventually('a small tile gets a small picture', async () => (await bob.width('Alice')) < 1_280);
  await bob.page.setViewportSize({ width: 1_280, height: 760 });
});

test('a shared screen is large for the others, and ends with the browser\'s own button', async () => {
  await bob.page.keyboard.press('s');
  const screen = alice.page.locator('.tile.screen.large', { hasText: 'Screen of Bob' });
  await screen.waitFor();
  await eventually('the screen is seen', async () => (await alice.width('Screen of Bob')) > 100);
  await alice.seesAndHears('Bob');
  await bob.page.getByText('Your screen', { exact: true }).waitFor();
  await alice.screenshot('shared-screen');
  await bob.page.locator('.tile.screen video').evaluate((video: HTMLVideoElement) => {
    const [track] = (video.srcObject as MediaStream).getVideoTracks();
    track?.dispatchEvent(new Event('ended'));
  });
  await screen.waitFor({ state: 'detached' });
  assert.equal(await bob.page.locator('#share').getAttribute('aria-pressed'), 'false');
});

test('what is encrypted end to end is seen and heard by whoever has the key, and by nobody else', async () => {
  await alice.page.getByRole('button', { name: 'Settings' }).click();
  await alice.page.getByLabel('End-to-end encryption').check();
  await alice.page.getByRole('button', { name: 'Close' }).click();
  const { hash } = new URL(alice.page.url());
  assert.match(hash, /^#key=[\w-]{22}$/);
  // Bob is in the room and has no key yet.
  await bob.tile('Alice').getByText('Encrypted with a key that you do not have').waitFor();
  await bob.page.evaluate((key) => (location.hash = key), hash);
  await Promise.all([bob.seesAndHears('Alice'), alice.seesAndHears('Bob')]);
  await bob.tile('Alice').locator('.lock').waitFor();

  const address = `${node(0)}/?${new URLSearchParams({ roomId: ROOM, displayName: 'Carol', video: '0' })}`;
  const carol = await Person.open(browser, 'Carol', `${address}#key=another`);
  await carol.inRoom();
  for (const name of ['Alice', 'Bob']) await carol.tile(name).getByText('Encrypted with a key that you do not have').waitFor();
  assert.deepEqual(await Promise.all(['Alice', 'Bob'].map(async (name) => {
    const { frames, energy } = await carol.progressOf(name);
    return [frames, energy];
  })), [[0, 0], [0, 0]]);
  await carol.screenshot('another-key');
  await carol.page.evaluate((key) => (location.hash = key), hash);
  await Promise.all(['Alice', 'Bob'].map((name) => carol.seesAndHears(name)));
  assert.deepEqual(carol.errors, []);
  await carol.close();
  await Promise.all([alice, bob].map((person) => person.tile('Carol').waitFor({ state: 'detached' })));
});

test('settings are kept', async () => {
  const { page } = bob;
  await page.keyboard.press(',');
  await page.getByLabel('Appearance').selectOption('light');
  await page.getByLabel('Layout').selectOption('speaker');
  const speaker = await page.getByLabel('Speaker', { exact: true }).locator('option').nth(1).getAttribute('value');
  await page.getByLabel('Speaker', { exact: true }).selectOption(speaker);
  await page.getByRole('button', { name: 'Close' }).click();
  await page.reload();
  await bob.inRoom();
  await bob.seesAndHears('Alice');
  assert.equal(await page.locator('html').getAttribute('data-theme'), 'light');
  assert.match((await bob.tile('Alice').getAttribute('class')) ?? '', /\blarge\b/);
  assert.equal(await bob.tile('Alice').locator('video').evaluate((video: HTMLVideoElement) => video.sinkId), speaker);
  await bob.screenshot('speaker-layout-light');
});

test('everything is at hand without a mouse, and told to those who do not see it', async () => {
  const { page } = bob;
  const key = (name: string) => page.keyboard.press(name);
  await key('l');
  await eventually('all are alike', async () => (await page.locator('.tile.large').count()) === 0);
  await key('m');
  await page.getByRole('button', { name: 'Unmute microphone' }).waitFor();
  await key('v');
  await page.getByRole('button', { name: 'Turn camera on' }).waitFor();
  await alice.tile('Bob').locator('.avatar').waitFor({ state: 'visible' });
  assert.match((await alice.tile('Bob').getAttribute('aria-label')) ?? '', /^Bob, .*microphone muted, camera off/);
  await key('?');
  const help = page.getByRole('dialog', { name: 'Keyboard' });
  await help.getByText('Microphone on or off').waitFor();
  await key('m');
  await key('Escape');
  await help.waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Unmute microphone' }).waitFor();
  // From the header, over the stage, to the last in the bar.
  const reached: string[] = [];
  for (let step = 0; step < 16; step++) {
    await key('Tab');
    const label = await page.evaluate(() => {
      const { activeElement } = document;
      return activeElement?.matches(':focus-visible') ? activeElement.getAttribute('aria-label') : null;
    });
    if (label) reached.push(label);
    if (label === 'Leave the room') break;
  }
  assert.deepEqual(reached, [
    '2 people', 'Picture quality of Alice', 'Pin Alice', 'Unmute microphone', 'Turn camera on', 'Share your screen', 'Raise your hand',
    'React', 'Chat', 'Show the speaker large', 'Show statistics', 'Copy the link to this room', 'Settings', 'Leave the room',
  ]);
  const news = alice.page.locator('[aria-live="polite"].visually-hidden');
  await key('Enter');
  await page.getByRole('button', { name: 'Join the room' }).waitFor();
  await eventually('the leaving is told', async () => (await news.textContent()) === 'Bob left');
});

test('no page has complained', () => {
  for (const person of [alice, bob]) assert.deepEqual(person.errors, [], person.name);
});
