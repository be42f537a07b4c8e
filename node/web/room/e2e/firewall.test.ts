/** Networks that let out less and less: people get in all the same, and stay when that changes while they talk. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome } from '@sluice/web-kit/harness/namespace';
import { Person } from '../harness/person';

const TABLE = ['inet', 'firewall'];

/** Blocks what comes for some ports. */
function block(protocol: 'udp' | 'tcp', ports: number[]): void {
  nft('add', 'table', ...TABLE);
  nft('add', 'chain', ...TABLE, 'input', '{ type filter hook input priority 0; }');
  nft('add', 'rule', ...TABLE, 'input', protocol, 'dport', `{ ${ports.join(', ')} }`, 'drop');
}

function nft(...command: string[]): void {
  execFileSync('nft', command);
}

atHome('a firewall', ['nft'], () => {
  let mesh: Mesh;
  let browser: Browser;
  let media: number[];

  before(async () => {
    mesh = await Mesh.processes('firewall', 2);
    media = mesh.nodes.map(({ users }) => Number(new URL(users).port) + 1);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
  });

  afterEach(() => nft('delete', 'table', ...TABLE));

  async function meet(room: string): Promise<[Person, Person]> {
    const people = ['Alice', 'Bob'].map((name, index) => Person.join(browser, name, mesh.nodes[index]?.users ?? '', room));
    const [alice, bob] = (await Promise.all(people)) as [Person, Person];
    await Promise.all([alice.inRoom(), bob.inRoom()]);
    await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
    return [alice, bob];
  }

  async function goesBy(path: RegExp, alice: Person): Promise<void> {
    await alice.page.locator('#stats').click();
    await eventually(`media go by ${path.source}`, async () => path.test(await alice.path('Bob')));
    await alice.screenshot(`firewall-${path.source.toLowerCase()}`);
    await alice.page.locator('#stats').click();
  }

  test('that lets no UDP out is passed by TCP', async () => {
    block('udp', media);
    const [alice, bob] = await meet('tcp');
    await goesBy(/^TCP/, alice);
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });

  test('that lets out only what goes to the port of the page is passed by TURN', async () => {
    block('udp', media);
    nft('add', 'rule', ...TABLE, 'input', 'tcp', 'dport', `{ ${media.join(', ')} }`, 'drop');
    const [alice, bob] = await meet('turn');
    await goesBy(/^TURN/, alice);
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });

  test('that closes during a call does not end it', async () => {
    const [alice, bob] = await meet('closing');
    await goesBy(/^UDP/, alice);
    await Promise.all([alice.markTile('Bob'), bob.markTile('Alice')]);
    block('udp', media);
    await goesBy(/^TCP/, alice);
    await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
    assert.ok((await alice.hasMarkedTile('Bob')) && (await bob.hasMarkedTile('Alice')), 'nobody has left');
  });
});
