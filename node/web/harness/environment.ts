/** What the tests and benchmarks get from outside, by environment variables. */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

// The scripts run in a package two folders below: node/web or loadtest/report.
export const REPOSITORY = resolve(process.cwd(), '../..');

/** The `sluice` binary under test. */
export const BINARY = resolve(process.env['E2E_BIN'] ?? join(REPOSITORY, 'target/release/sluice'));

/** The `sluice-loadtest` that reports of what a browser sees are compared with. */
export const LOADTEST = resolve(process.env['E2E_LOADTEST'] ?? join(REPOSITORY, 'target/release/sluice-loadtest'));

export const CHROMIUM = process.env['E2E_CHROMIUM'] ?? '/usr/bin/chromium';

/** Where screenshots and logs go. */
export const ARTIFACTS = resolve(process.env['E2E_ARTIFACTS'] ?? join(REPOSITORY, 'target/e2e'));
mkdirSync(ARTIFACTS, { recursive: true });
