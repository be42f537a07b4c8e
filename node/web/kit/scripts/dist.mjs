/**
 * What the builds of pages share. A page's `dist/` is committed, so that whoever builds the Rust programs needs no Node.js. Its
 * file names are stable and it depends on nothing but the sources and the lockfile, so that `--check` can tell whether it is
 * what they give. The scripts run in the page's package.
 */
import { build } from 'esbuild';
import { cp, mkdtemp, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** esbuild, set up for pages. */
export function bundlePage(options) {
  return build({
    bundle: true,
    minify: true,
    target: ['chrome111', 'firefox120', 'safari16.4'],
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
    ...options,
  });
}

/** Fills `dist/` by `bundle(folder)`; with `--check`, only tells whether it is filled so. */
export async function distribute(bundle) {
  const fresh = await mkdtemp(join(tmpdir(), 'sluice-page-'));
  try {
    await bundle(fresh);
    if (process.argv.includes('--check')) {
      const stale = await differences(fresh, 'dist');
      if (stale.length > 0) {
        console.error(`dist/ is not what the sources give (${stale.join(', ')}): run \`npm run build\` and commit it`);
        process.exitCode = 1;
      }
    } else {
      await rm('dist', { recursive: true, force: true });
      await mkdir('dist');
      await cp(fresh, 'dist', { recursive: true });
    }
  } finally {
    await rm(fresh, { recursive: true });
  }
}

/** The licence texts of the packages that a bundle of these files contains parts of. */
export async function licences(inputs) {
  // Their folders are below the page's package or below the workspace, as npm likes.
  const folders = new Set(inputs.map((path) => /^.*\bnode_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]).filter(Boolean));
  const parts = [];
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file: it cannot be bundled`);
    const text = (await readFile(join(folder, file), 'utf8')).replace(/\r\n/g, '\n').trim();
    parts.push(`${'-'.repeat(80)}\n${name} ${version} (${license})\n\n${text}\n`);
  }
  return parts.join('\n');
}

/** The names of files that two folders do not have alike. */
async function differences(a, b) {
  const names = new Set([...(await readdir(a)), ...(await readdir(b).catch(() => []))]);
  const read = (folder, name) => readFile(join(folder, name)).catch(() => Buffer.from('absent'));
  const stale = [];
  for (const name of names) if (!(await read(a, name)).equals(await read(b, name))) stale.push(name);
  return stale;
}
