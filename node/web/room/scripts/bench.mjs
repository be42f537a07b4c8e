/** Runs the join benchmark. */
import { spawnSync } from 'node:child_process';
import { bundle } from '@sluice/web-kit/scripts/bundle.mjs';

const [file] = await bundle(['bench/join.ts']);
const { status } = spawnSync(process.execPath, ['--enable-source-maps', file, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(status ?? 1);
