/** Networks that let out less and less: people get in all the same, and stay when that changes while they talk. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { launch, type AnyPage, type Browser } from '@sluice/web-kit/harness/browser';
import { FIREFOX } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Firefox } from '@sluice/web-kit/harness/firefox';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, nft, WORLD_ADDRESS } from '@sluice/web-kit/harness/namespace';
import { pathTo, seesAndHears } from '../harness/any-page';
import { haveMarkedTiles, markTiles, meet, seeAndHear, type Person } from '../harness/person';

/** Browsers give a path up some seconds after the last answer on it, and the page then looks for another. */
const MOVES_WITHIN_MS = 60_000;

const noFirefox = existsSync(FIREFOX) ? false : 'Firefox is not installed';

const TABLE = ['inet', 'firewall'];

/** Lets nothing out to some ports. */
function block(protocol: 'udp' | 'tcp', ports: number[]): void {
  nft('add', 'rule', ...TABLE, 'output', protocol, 'dport', `{ ${ports.join(', ')} }`, 'drop');
}

/** Lets everything out. */
function open(): void {
  nft('flush', 'chain', ...TABLE, 'output');
}

/** What the page does once a minute, and when the browser says that there is a network again. */
function looksForDirect(person: Person): Promise<unknown> {
  return person.page.evaluate(() => dispatchEvent(new Event('online')));
}

atHome('a firewall', ['nft'], (world) => {
  let mesh: Mesh;
  let browser: Browser;
  let media: number[];
  let people: Person[] = [];

  before(async () => {
    mesh = await Mesh.processes('firewall', 2, [], { namespace: world, addresses: [WORLD_ADDRESS] });
    media = mesh.nodes.map(({ users }) => Number(new URL(users).port) + 1);
    browser = await launch({ secure: mesh.nodes.map(({ users }) => users) });
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
  });

  beforeEach(() => {
    nft('add', 'table', ...TABLE);
    nft('add', 'chain', ...TABLE, 'output', '{ type filter hook output priority 0; }');
  });

  afterEach(async () => {
    nft('delete', 'table', ...TABLE);
    await Promise.all(people.map((person) => person.close()));
  });

  async function meetIn(room: string): Promise<[Person, Person]> {
    const nodes = mesh.nodes.map(({ users }) => users);
    const [alice, bob] = await meet(browser, nodes, room);
    people = [alice, bob];
    return [alice, bob];
  }

  async function goesBy(path: string, alice: Person): Promise<void> {
    await alice.page.locator('#stats').click();
    await eventually(`media go by ${path}`, async () => (await alice.path('Bob')).startsWith(path), MOVES_WITHIN_MS);
    await alice.screenshot(`firewall-${path}`);
    await alice.page.locator('#stats').click();
  }

  test('that lets no UDP out is passed by TCP', async () => {
    block('udp', media);
    const [alice, bob] = await meetIn('tcp');
    await goesBy('TCP', alice);
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });

  test('that lets out only what goes to the port of the page is passed by TURN', async () => {
    block('udp', media);
    block('tcp', media);
    const [alice, bob] = await meetIn('turn');
    await goesBy('TURN', alice);
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });

  for (const { protocols, path } of [
    { protocols: ['udp'], path: 'tcp' },
    { protocols: ['udp', 'tcp'], path: 'relay' },
  ] as const) {
    test(`that lets no ${protocols.join(' and no ')} out to the media port is passed by Firefox`, { skip: noFirefox }, async () => {
      protocols.forEach((protocol) => block(protocol, media));
      const firefox = await Firefox.launch([WORLD_ADDRESS]);
      try {
        const pages: AnyPage[] = [await firefox.newPage(), await browser.newPage()];
        for (const [index, page] of pages.entries()) {
          await page.goto(`${mesh.nodes[index]?.users}/?${new URLSearchParams({ roomId: `firefox ${path}`, displayName: `${index}` })}`);
        }
        await Promise.all(pages.map((page, index) => seesAndHears(`${index}`, page)));
        for (const page of pages) assert.equal(await pathTo(page), path);
      } finally {
        await firefox.close();
      }
    });
  }

  test('that closes during a call does not end it, and when it opens they go straight again', async () => {
    const [alice, bob] = await meetIn('closing');
    await goesBy('UDP', alice);
    await markTiles(alice, bob);
    block('udp', media);
    await goesBy('TCP', alice);
    await seeAndHear(alice, bob);
    open();
    await looksForDirect(alice);
    await goesBy('UDP', alice);
    await seeAndHear(alice, bob);
    assert.ok(await haveMarkedTiles(alice, bob), 'nobody has left');
  });

  test('that closes to all but the port of the page does not end it either', async () => {
    const [alice, bob] = await meetIn('closing more');
    await markTiles(alice, bob);
    block('udp', media);
    block('tcp', media);
    await goesBy('TURN', alice);
    // In vain: what is in use stays in use.
    await looksForDirect(alice);
    await seeAndHear(alice, bob);
    open();
    await looksForDirect(alice);
    await goesBy('UDP', alice);
    await seeAndHear(alice, bob);
    assert.ok(await haveMarkedTiles(alice, bob), 'nobody has left');
  });
});
