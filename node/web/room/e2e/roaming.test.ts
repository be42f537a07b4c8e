/** Somebody who walks out of one network into another while they talk: from Wi-Fi to mobile. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, CABLE, HOME_ADDRESS, ip } from '@sluice/web-kit/harness/namespace';
import { haveMarkedTiles, markTiles, meet, seeAndHear } from '../harness/person';

/** The other network, between the same two machines; and where the nodes are, whichever way one comes (RFC 5737). */
const OTHER_CABLE = 'cable2';
const [OTHER_HOME, NODES] = ['198.51.100.2', '203.0.113.1'];

atHome('two networks', [], (world) => {
  let mesh: Mesh;
  let browser: Browser;

  before(async () => {
    ip('link', 'add', OTHER_CABLE, 'type', 'veth', 'peer', 'name', OTHER_CABLE, 'netns', world.name);
    ip('address', 'add', `${OTHER_HOME}/24`, 'dev', OTHER_CABLE);
    ip('link', 'set', OTHER_CABLE, 'up');
    ip('route', 'add', 'default', 'dev', OTHER_CABLE, 'metric', '100');
    world.run('ip', 'link', 'set', OTHER_CABLE, 'up');
    world.run('ip', 'route', 'add', `${OTHER_HOME}/32`, 'dev', OTHER_CABLE);
    world.run('ip', 'address', 'add', `${NODES}/32`, 'dev', 'lo');
    mesh = await Mesh.processes('roaming', 2, [], { namespace: world, addresses: [NODES ?? ''] });
    browser = await launch({ secure: mesh.nodes.map(({ users }) => users) });
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
  });

  test('a call goes on in the other one', async () => {
    const nodes = mesh.nodes.map(({ users }) => users);
    const [alice, bob] = await meet(browser, nodes, 'roaming');
    await markTiles(alice, bob);
    ip('link', 'set', CABLE, 'down');
    await seeAndHear(alice, bob);
    assert.ok(await haveMarkedTiles(alice, bob), 'nobody has left');
    ip('link', 'set', CABLE, 'up');
    ip('address', 'replace', `${HOME_ADDRESS}/24`, 'dev', CABLE);
    ip('route', 'replace', 'default', 'dev', CABLE);
    ip('link', 'set', OTHER_CABLE, 'down');
    await seeAndHear(alice, bob);
    assert.ok(await haveMarkedTiles(alice, bob), 'and back');
  });
});
