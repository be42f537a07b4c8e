/**
 * Bundles the page into `dist/`, which is committed: whoever builds the server needs no Node.js.
 *
 * The file names are stable and the output depends on nothing but the sources and the lockfile, so that `--check` can
 * tell whether `dist/` is what they give.
 */
import { build } from 'esbuild';
import { cp, mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

if (process.argv.includes('--check')) {
  const fresh = await mkdtemp(join(tmpdir(), 'sluice-page-'));
  try {
    await bundle(fresh);
    const stale = await differences(fresh, dist);
    if (stale.length > 0) {
      console.error(`dist/ is not what the sources give (${stale.join(', ')}): run \`npm run build\` and commit it`);
      process.exitCode = 1;
    }
  } finally {
    await rm(fresh, { recursive: true });
  }
} else {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist);
  await bundle(dist);
}

async function bundle(outdir) {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [
      { in: 'src/main.ts', out: 'app' },
      { in: 'src/styles/app.css', out: 'app' },
    ],
    outdir,
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['chrome111', 'firefox120', 'safari16.4'],
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
  });
  for (const file of ['index.html', 'icon.svg']) await cp(join(root, 'src', file), join(outdir, file));
  await writeFile(join(outdir, 'licenses.txt'), await licences(Object.keys(metafile.inputs)));
}

/** The licence texts of the packages that the bundle contains parts of. */
async function licences(inputs) {
  const packages = new Set(
    inputs.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter((name) => name !== undefined),
  );
  const parts = ['The room page contains parts of these packages.\n'];
  for (const name of [...packages].sort()) {
    const folder = join(root, 'node_modules', name);
    const { version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
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
