/** What the tests and benchmarks get from outside, by environment variables. */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** What cargo has built, in the repository that the tests run in. */
export const TARGET = join(folderOf('Cargo.lock'), 'target');

/** The `sluice` binary under test. */
export const BINARY = resolve(process.env['E2E_BIN'] ?? join(TARGET, 'release/sluice'));

/** The `sluice-loadtest` that reports of what a browser sees are compared with. */
export const LOADTEST = resolve(process.env['E2E_LOADTEST'] ?? join(TARGET, 'release/sluice-loadtest'));

export const CHROMIUM = process.env['E2E_CHROMIUM'] ?? '/usr/bin/chromium';

/** A folder with the room page's files, for browsers to get in place of those in the binary: it need not be built again. */
export const PAGE = process.env['E2E_PAGE'];
export const FIREFOX = process.env['E2E_FIREFOX'] ?? '/usr/bin/firefox-esr';

/** Where screenshots and logs go. */
export const ARTIFACTS = resolve(process.env['E2E_ARTIFACTS'] ?? join(TARGET, 'e2e'));
mkdirSync(ARTIFACTS, { recursive: true });

/** The nearest folder with this file, from the one that the tests run in upwards. */
function folderOf(file: string): string {
  let folder = process.cwd();
  while (!existsSync(join(folder, file))) {
    if (folder === dirname(folder)) throw new Error(`no folder above ${process.cwd()} has ${file}`);
    folder = dirname(folder);
  }
  return folder;
}
