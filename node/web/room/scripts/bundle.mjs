/** Bundles TypeScript that runs in Node.js. Saves a loader; packages stay outside the bundle. */
import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Within this package, so that imports of its packages resolve, also those of another package's tests.
const outdir = fileURLToPath(new URL('../node_modules/.bundled', import.meta.url));

/** Bundles `sources` (relative to the package that the script runs in) and gives the files to run. */
export async function bundle(sources) {
  await build({
    entryPoints: sources,
    outbase: '.',
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
