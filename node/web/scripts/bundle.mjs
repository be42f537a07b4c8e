/** Bundles TypeScript that runs in Node.js. Saves a loader; packages stay outside the bundle. */
import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Bundles `sources` (relative to the package) and gives the files to run. */
export async function bundle(sources) {
  // Within the package, so that imports of packages resolve.
  const outdir = join(root, 'node_modules', '.bundled');
  await build({
    absWorkingDir: root,
    entryPoints: sources,
    outbase: root,
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
  return sources.map((source) => join(outdir, source.replace(/\.ts$/, '.mjs')));
}
