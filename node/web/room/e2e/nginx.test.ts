/** nginx in front, as its documentation sets it up for WebSockets: it ends connections that are silent. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh, freePort } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'quiet';

/** 60 s by default. The node says something every 20 s by default, and here in the same proportion. */
const PROXY_READ_TIMEOUT_S = 3;
const PING_INTERVAL_MS = 1_000;

/** Five minutes, in the same proportion. */
const QUIET_MS = 5 * PROXY_READ_TIMEOUT_S * 1_000;

const skip = spawnSync('nginx', ['-v']).error ? 'nginx is not installed' : false;

const folder = mkdtempSync(join(tmpdir(), 'sluice-nginx-'));
let mesh: Mesh;
let nginx: ChildProcess;
let browser: Browser;
let url: string;

async function startNginx(port: number, upstream: string): Promise<ChildProcess> {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`);
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events {}
http {
  access_log off;
  ${paths.join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass ${upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout ${PROXY_READ_TIMEOUT_S}s;
    }
  }
}
`,
  );
  // nginx works as another user.
  chmodSync(folder, 0o755);
  const child = spawn('nginx', ['-e', join(folder, 'error.log'), '-c', join(folder, 'nginx.conf')], { stdio: 'inherit' });
  await eventually('nginx passes on', async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok);
  return child;
}

before(async () => {
  if (skip) return;
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const settings = ['--users-url', url, '--users-proxies', '127.0.0.1', '--limits-ping-interval-ms', String(PING_INTERVAL_MS)];
  mesh = await Mesh.processes('nginx', 1, settings);
  nginx = await startNginx(port, mesh.nodes[0]?.users ?? '');
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  if (nginx && nginx.exitCode === null) {
    nginx.kill('SIGTERM');
    await once(nginx, 'exit');
  }
  rmSync(folder, { recursive: true });
});

test('people who neither say nor show anything for long stay connected', { skip }, async () => {
  const quiet = { audio: '0', video: '0' };
  const people = await Promise.all(['Alice', 'Bob'].map((name) => Person.join(browser, name, url, ROOM, quiet)));
  await Promise.all(people.map((person) => person.inRoom()));
  const sockets = people.map((person) => person.sockets);
  const until = performance.now() + QUIET_MS;
  await eventually('it was quiet for long', () => performance.now() > until, 2 * QUIET_MS);
  assert.deepEqual(people.map((person) => person.sockets), sockets, 'nobody had to come back');
  for (const { page } of people) {
    await page.getByRole('button', { name: 'Unmute microphone' }).click();
    await page.getByRole('button', { name: 'Turn camera on' }).click();
  }
  const [alice, bob] = people as [Person, Person];
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  assert.deepEqual(people.flatMap(({ errors }) => errors), []);
});
