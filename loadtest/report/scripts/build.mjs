/** Bundles the page into one file, `dist/report.html`, which lacks nothing but the data. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundlePage, distribute, licences } from '@sluice/web-kit/scripts/dist.mjs';

/** Where the program puts the data: a JSON string, once in the page. */
const PLACE = '"DATA"';

await distribute(async (outdir) => {
  const { metafile, outputFiles } = await bundlePage({
    entryPoints: ['src/main.ts', 'src/styles/report.css'],
    outdir: 'out',
    write: false,
    format: 'iife',
  });
  const output = (extension) => outputFiles.find(({ path }) => path.endsWith(extension)).text;
  const parts = {
    STYLE: output('.css'),
    SCRIPT: output('.js'),
    LICENCES: escaped(await licences(Object.keys(metafile.inputs))),
  };
  const template = await readFile('src/report.html', 'utf8');
  const page = template.replace(/\/\*(STYLE|SCRIPT)\*\/|<!--(LICENCES)-->/g, (_, code, text) => parts[code ?? text]);
  if (page.split(PLACE).length !== 2) throw new Error(`${PLACE} must stand once in the page`);
  if (/<\/(script|style)|<!--/i.test(parts.STYLE + parts.SCRIPT)) throw new Error('the code would end its own element');
  await writeFile(join(outdir, 'report.html'), page);
});

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
