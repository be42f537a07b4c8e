/** Chromium without a window, with fake cameras and microphones. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';
import { CHROMIUM } from './environment';
import type { Namespace } from './namespace';

export type { Browser, BrowserContext, Page } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Several pages are looked at "at once".
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
];

/** What pages of all browsers can do. */
export interface AnyPage {
  goto(url: string): Promise<unknown>;
  evaluate<A, R>(script: string | ((argument: A) => R | Promise<R>), argument: A): Promise<R>;
}

export interface BrowserOptions {
  /** Without devices, the browser has no camera and no microphone at all. */
  devices?: boolean;
  framesPerSecond?: number;
  /** Whether sound is played of itself, also by pages that record none. */
  autoplay?: boolean;
  /** Origins whose pages may do what others may only by HTTPS or from this machine. */
  secure?: string[];
  /** Where it runs, if not where the test does. */
  namespace?: Namespace;
}

export async function launch(options: BrowserOptions = {}): Promise<Browser> {
  const { devices = true, framesPerSecond = 10, autoplay = false, secure = [], namespace } = options;
  const args = [
    ...ARGS,
    ...(devices ? [`--use-fake-device-for-media-stream=fps=${framesPerSecond}`, '--use-fake-ui-for-media-stream'] : []),
    ...(autoplay ? ['--autoplay-policy=no-user-gesture-required'] : []),
    ...(secure.length > 0 ? [`--unsafely-treat-insecure-origin-as-secure=${secure.join()}`] : []),
  ];
  if (!namespace) return chromium.launch({ executablePath: CHROMIUM, args });
  // Playwright starts a file.
  const folder = mkdtempSync(join(tmpdir(), 'sluice-browser-'));
  const executablePath = join(folder, 'chromium');
  writeFileSync(executablePath, `#!/bin/sh\nexec ${namespace.entering(CHROMIUM).join(' ')} "$@"\n`, { mode: 0o755 });
  try {
    return await chromium.launch({ executablePath, args });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
