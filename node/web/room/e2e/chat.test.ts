/** People on two nodes write to each other, raise their hands and react; one comes later. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Relay } from '@sluice/web-kit/harness/relay';
import { Person } from '../harness/person';

const ROOM = 'chat';

let mesh: Mesh;
let relay: Relay;
let browser: Browser;
let alice: Person;
let bob: Person;

before(async () => {
  mesh = await Mesh.dev('chat', 2);
  relay = await Relay.to(Number(new URL(node(0)).port));
  browser = await launch();
  [alice, bob] = await Promise.all([
    Person.join(browser, 'Alice', `http://127.0.0.1:${relay.port}`, ROOM),
    Person.join(browser, 'Bob', node(1), ROOM),
  ]);
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await Promise.all([alice.tile('Bob').waitFor(), bob.tile('Alice').waitFor()]);
});

after(async () => {
  await browser?.close();
  relay?.close();
  await mesh?.stop();
});

function node(index: number): string {
  return mesh.nodes[index]?.users ?? '';
}

test('what one writes the other reads, and the other way round', async () => {
  await alice.write('Hello Bob, see https://example.org/agenda.');
  const { page } = bob;
  await page.getByRole('button', { name: 'Chat, 1 new message', exact: true }).waitFor();
  await bob.readsOf('Alice', 'Hello Bob, see https://example.org/agenda.');
  assert.equal(await page.locator('.message a').getAttribute('href'), 'https://example.org/agenda');
  await page.getByRole('button', { name: 'Chat', exact: true }).waitFor();
  await bob.write('Hello Alice\nit is 3 < 4 <b>here</b>');
  await alice.readsOf('Bob', 'Hello Alice\nit is 3 < 4 <b>here</b>');
  for (const text of ['one', 'two', 'three']) await alice.write(text);
  await bob.readsOf('Alice', 'three');
  await eventually('in their order', async () => {
    const texts = await page.locator('.message:not(.own) .message-text').allTextContents();
    return texts.slice(-3).join() === 'one,two,three';
  });
  await eventually('all are sent', async () => (await alice.page.locator('.message-state').allTextContents()).join('') === '');
  await bob.screenshot('chat');
});

test('a text that is too long is not sent, and stays', async () => {
  const { page } = alice;
  const field = page.getByLabel('Message to everybody');
  await field.fill('x'.repeat(4_001));
  await field.press('Enter');
  await page.getByRole('alert').getByText('leave out 1 character.').waitFor();
  assert.equal((await field.inputValue()).length, 4_001);
  await field.fill('');
  assert.equal(await page.getByRole('alert').filter({ hasText: 'leave out' }).count(), 0);
});

test('hands and reactions are seen on the tile and in the list, by who comes later too', async () => {
  await alice.page.keyboard.press('Escape');
  await bob.page.keyboard.press('Escape');
  await alice.page.keyboard.press('h');
  await bob.tile('Alice').getByLabel('Hand raised, number 1').waitFor();
  await bob.page.getByRole('button', { name: 'Raise your hand' }).click();
  await alice.tile('Bob').getByLabel('Hand raised, number 2').waitFor();

  await bob.page.getByRole('button', { name: 'React' }).click();
  await bob.page.getByRole('button', { name: 'Applause' }).click();
  await alice.tile('Bob').locator('.reaction', { hasText: '👏' }).waitFor();
  await alice.screenshot('hand-and-reaction');
  await alice.tile('Bob').locator('.reaction').waitFor({ state: 'detached' });

  const carol = await Person.join(browser, 'Carol', node(1), ROOM, { video: '0' });
  await carol.inRoom();
  await carol.tile('Alice').getByLabel('Hand raised, number 1').waitFor();
  await carol.tile('Bob').getByLabel('Hand raised, number 2').waitFor();
  await carol.page.keyboard.press('p');
  const names = carol.page.getByRole('complementary', { name: 'People' }).locator('.person b');
  await eventually('hands come first', async () => (await names.allTextContents()).join() === 'Alice,Bob,Carol (you)');
  await carol.screenshot('people');

  await alice.page.keyboard.press('h');
  await carol.tile('Alice').locator('.hand').waitFor({ state: 'detached' });
  await carol.tile('Bob').getByLabel('Hand raised, number 1').waitFor();
  await bob.page.getByRole('button', { name: 'Lower your hand' }).click();
  await carol.tile('Bob').locator('.hand').waitFor({ state: 'detached' });

  // Who came later reads what is written from then on.
  await alice.write('Welcome Carol');
  await carol.readsOf('Alice', 'Welcome Carol');
  assert.equal(await carol.page.locator('.message').count(), 1);
  assert.deepEqual(carol.errors, []);
  await carol.close();
  await alice.tile('Carol').waitFor({ state: 'detached' });
});

test('what is written while the connection is away arrives once, and the hand stays up', async () => {
  await alice.page.keyboard.press('Escape');
  await alice.page.keyboard.press('h');
  await bob.tile('Alice').locator('.hand').waitFor();
  relay.break();
  await alice.page.getByText('Reconnecting…').waitFor();
  await alice.write('Written meanwhile');
  relay.mend();
  await alice.page.getByText('Reconnecting…').waitFor({ state: 'detached' });
  await bob.readsOf('Alice', 'Written meanwhile');
  await alice.write('Written afterwards');
  await bob.readsOf('Alice', 'Written afterwards');
  assert.equal(await bob.page.locator('.message-text', { hasText: 'Written meanwhile' }).count(), 1);
  await bob.tile('Alice').locator('.hand').waitFor();
});

test('what is encrypted end to end is read by whoever has the key, and by nobody else', async () => {
  await alice.page.evaluate(() => (location.hash = '#key=a-passphrase-of-the-room'));
  await alice.write('For those who have the key');
  await bob.readsOf('Alice', 'Encrypted with a key that you do not have');
  await bob.page.evaluate(() => (location.hash = '#key=a-passphrase-of-the-room'));
  await alice.write('Now for Bob too');
  await bob.readsOf('Alice', 'Now for Bob too');
  await bob.page.locator('.message', { hasText: 'Now for Bob too' }).getByLabel('Encrypted end to end').waitFor();
});

test('whoever reloads the page writes again, and whose page is gone has no hand up', async () => {
  await bob.tile('Alice').locator('.hand').waitFor();
  await alice.page.reload();
  await alice.inRoom();
  await bob.tile('Alice').waitFor();
  await eventually('the hand is down', async () => (await bob.tile('Alice').locator('.hand').count()) === 0);
  await alice.write('Back again');
  await bob.readsOf('Alice', 'Back again');
});

test('no page has complained of anything but the connection', () => {
  for (const person of [alice, bob]) {
    assert.deepEqual(person.errors.filter((text) => !text.startsWith('WebSocket connection to')), [], person.name);
  }
});
