/**
 * Bundles the tests of a folder (`test` unless named) into `target/` and runs them with Node's own test runner.
 *
 * Bundling saves a TypeScript loader; the helper packages that drive browsers stay outside.
 */
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = process.argv[2] ?? 'test';
const only = process.argv.slice(3);
const sources = (await readdir(join(root, folder))).filter(
  (name) => name.endsWith('.test.ts') && (only.length === 0 || only.some((part) => name.includes(part))),
);
// Inside the package, so that imports of packages left outside the bundle resolve.
const outdir = join(root, 'node_modules', '.tests', folder);
await build({
  absWorkingDir: root,
  entryPoints: sources.map((name) => join(folder, name)),
  outdir,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node18',
  packages: 'external',
  outExtension: { '.js': '.mjs' },
  sourcemap: 'inline',
  logLevel: 'warning',
});
const files = sources.map((name) => join(outdir, name.replace(/\.ts$/, '.mjs')));
// One file at a time: the end-to-end tests share two cores with several browsers and nodes.
for (const file of files) {
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', '--test-reporter=spec', file], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
