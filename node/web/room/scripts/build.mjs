/** Bundles the page into `dist/`. */
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundlePage, distribute, licences } from '@sluice/web-kit/scripts/dist.mjs';

await distribute(async (outdir) => {
  const { metafile } = await bundlePage({
    entryPoints: [
      { in: 'src/main.ts', out: 'app' },
      { in: 'src/e2ee/worker.ts', out: 'e2ee' },
      { in: 'src/styles/app.css', out: 'app' },
    ],
    outdir,
    format: 'esm',
  });
  for (const file of ['index.html', 'icon.svg']) await cp(join('src', file), join(outdir, file));
  const texts = await licences(Object.keys(metafile.inputs));
  await writeFile(join(outdir, 'licenses.txt'), `The room page contains parts of these packages.\n\n${texts}`);
});
