/** A network that lets no UDP through for a while, as one does that people walk out of and back into. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, nft } from '@sluice/web-kit/harness/namespace';
import { haveMarkedTiles, markTiles, meet, seeAndHear } from '../harness/person';

const ROOM = 'tunnel';

/** ICE gives a path up after 30 s without a sign of life (RFC 7675 section 5.1). */
const BLOCKED_MS = 25_000;

// Node and browsers are at home: it is there that UDP is blocked.
atHome('a call survives 25 s without UDP', ['nft'], () => {
  let mesh: Mesh;
  let browser: Browser;

  before(async () => {
    // By TCP or TURN the call would not notice.
    mesh = await Mesh.processes('blocked-udp', 1, ['--media-tcp=false', '--turn-enabled=false']);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
  });

  test('the call goes on when UDP is back, and nobody has left', async () => {
    const node = mesh.nodes[0]?.users ?? '';
    const [alice, bob] = await meet(browser, [node, node], ROOM);
    await markTiles(alice, bob);
    const sockets = [alice.sockets, bob.sockets];

    const blocked = performance.now();
    nft('add', 'table', 'inet', 'tunnel');
    nft('add', 'chain', 'inet', 'tunnel', 'input', '{ type filter hook input priority 0; }');
    nft('add', 'rule', 'inet', 'tunnel', 'input', 'meta', 'l4proto', 'udp', 'drop');
    await alice.page.getByText('Media interrupted, repairing…').waitFor();
    await alice.screenshot('media-interrupted');
    await eventually('it was blocked for long', () => performance.now() > blocked + BLOCKED_MS, 2 * BLOCKED_MS);
    nft('delete', 'table', 'inet', 'tunnel');

    await seeAndHear(alice, bob);
    assert.ok(await haveMarkedTiles(alice, bob), 'nobody has left');
    assert.deepEqual([alice.sockets, bob.sockets], sockets, 'nobody had to come back');
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });
});
