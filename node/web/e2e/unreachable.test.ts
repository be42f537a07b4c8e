/** A node whose media nobody reaches: signalling works, and the page must say what does not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { Person, launch } from '../harness/browser';
import { eventually } from '../harness/eventually';
import { Mesh } from '../harness/mesh';

/** How long Chromium tries before it calls an ICE connection failed. */
const ICE_FAILS_WITHIN_MS = 60_000;

let mesh: Mesh;
let browser: Browser;

before(async () => {
  // Where nobody answers.
  mesh = await Mesh.processes('unreachable', 1, ['--media-announced', '127.0.0.1:9']);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

test('the page says that media find no way, and which tiles wait for them', async () => {
  const node = mesh.nodes[0]?.users ?? '';
  const [alice, bob] = (await Promise.all(['Alice', 'Bob'].map((name) => Person.join(browser, name, node, 'silence')))) as [Person, Person];
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await alice.tile('Bob').getByText('No picture arrives').waitFor();
  await eventually('the chip says so', async () => (await alice.page.locator('.chip').innerText()) === 'No way for media', ICE_FAILS_WITHIN_MS);
  const notice = alice.page.locator('.notice', { hasText: 'find no way to the server' });
  assert.match(await notice.innerText(), /127\.0\.0\.1:9 \(UDP\)/);
  await alice.screenshot('unreachable');
});
