/** Bundles TypeScript that runs in Node.js. Saves a loader; packages stay outside the bundle. */
import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This package: TypeScript too, so it goes into the bundle. */
const kit = fileURLToPath(new URL('..', import.meta.url));

/** In the package that the script runs in, where imports of packages resolve as they do for the sources. */
const outdir = join('node_modules', '.bundled');

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
    alias: { '@sluice/web-kit': kit },
    outExtension: { '.js': '.mjs' },
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  return sources.map((source) => join(outdir, source.replace(/\.ts$/, '.mjs')));
}
