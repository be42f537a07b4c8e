#!/usr/bin/env node
/**
 * Runs the tests of a folder, of the package that it runs in, with Node's own test runner:
 * `web-test FOLDER [PART_OF_A_FILE_NAME]...`
 */
import { spawnSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { bundle } from './bundle.mjs';

const [folder, ...parts] = process.argv.slice(2);
const names = await readdir(folder);
const sources = names
  .filter((name) => name.endsWith('.test.ts') && (parts.length === 0 || parts.some((part) => name.includes(part))))
  .map((name) => `${folder}/${name}`);
// One file at a time: the end-to-end tests share a few cores with several browsers and nodes.
for (const file of await bundle(sources)) {
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test-reporter=spec', '--test', file], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
