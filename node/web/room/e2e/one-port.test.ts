/** A network that lets nothing out but TCP to port 443, and nodes that need nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch } from '@sluice/web-kit/harness/browser';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, CABLE, nft, WORLD_ADDRESS } from '@sluice/web-kit/harness/namespace';
import { pathTo } from '../harness/any-page';
import { meet } from '../harness/person';

/** Where nodes are that listen on the same port: that of the cable's end, and another one (RFC 5737). */
const ADDRESSES: [string, string] = [WORLD_ADDRESS, '192.0.2.3'];

const PORT = 443;

atHome('port 443 is enough', ['nft'], (world) => {
  for (const { how, settings } of [
    { how: 'tcp', settings: [] },
    { how: 'relay', settings: ['--media-tcp=false'] },
  ]) {
    test(`by ${how}`, async () => {
      world.run('ip', 'address', 'replace', `${ADDRESSES[1]}/24`, 'dev', CABLE);
      const mesh = await Mesh.processes(`one-port-${how}`, 2, settings, { namespace: world, addresses: ADDRESSES, port: PORT });
      const nodes = mesh.nodes.map(({ users }) => users);
      const browser = await launch({ secure: nodes });
      nft('add', 'table', 'inet', 'firewall');
      try {
        nft('add', 'chain', 'inet', 'firewall', 'output', '{ type filter hook output priority 0; }');
        nft('add', 'rule', 'inet', 'firewall', 'output', 'oifname', CABLE, 'meta', 'l4proto', 'udp', 'drop');
        nft('add', 'rule', 'inet', 'firewall', 'output', 'oifname', CABLE, 'tcp', 'dport', '!=', `${PORT}`, 'drop');
        const [alice, bob] = await meet(browser, nodes, 'one port');
        for (const { page } of [alice, bob]) assert.equal(await pathTo(page), how);
        assert.deepEqual([...alice.errors, ...bob.errors], []);
      } finally {
        nft('delete', 'table', 'inet', 'firewall');
        await browser.close();
        await mesh.stop();
      }
    });
  }
});
