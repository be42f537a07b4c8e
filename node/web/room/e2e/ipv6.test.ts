/** A network that has IPv6 and nothing else, and nodes that are told of by a name. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, CABLE, ip } from '@sluice/web-kit/harness/namespace';
import { pathTo } from '../harness/any-page';
import { meet } from '../harness/person';

/** For documentation (RFC 3849). */
const [HOME, WORLD] = ['2001:db8::2', '2001:db8::1'];

/** Never in use elsewhere (RFC 6761). */
const NAME = 'sfu.test';

atHome('IPv6 and nothing else', [], (world) => {
  /** What programs in `world` find under `/etc`, see ip-netns(8). */
  const etc = `/etc/netns/${world.name}`;
  let mesh: Mesh;
  let browser: Browser;

  before(async () => {
    ip('-4', 'address', 'flush', 'dev', CABLE);
    ip('-6', 'address', 'add', `${HOME}/64`, 'dev', CABLE, 'nodad');
    ip('-6', 'route', 'add', 'default', 'dev', CABLE);
    world.run('ip', '-6', 'address', 'add', `${WORLD}/64`, 'dev', CABLE, 'nodad');
    mkdirSync(etc, { recursive: true });
    writeFileSync(`${etc}/hosts`, `${WORLD} ${NAME}\n`);
    mesh = await Mesh.processes('ipv6', 2, ['--media-announced', NAME], { namespace: world, addresses: [WORLD ?? ''] });
    browser = await launch({ secure: mesh.nodes.map(({ users }) => users) });
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
    rmSync(etc, { recursive: true, force: true });
  });

  for (const protocol of ['udp', 'tcp']) {
    test(`people see and hear each other by ${protocol}`, async () => {
      const more: Record<string, string> = protocol === 'tcp' ? { forceTcp: 'true' } : {};
      const nodes = mesh.nodes.map(({ users }) => users);
      const people = await meet(browser, nodes, protocol, more);
      for (const { page } of people) assert.equal(await pathTo(page), protocol);
      assert.deepEqual(people.flatMap(({ errors }) => errors), []);
      await Promise.all(people.map((person) => person.close()));
    });
  }
});
