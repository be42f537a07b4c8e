/** Chromium without a window, with fake cameras and microphones. */
import { chromium, type Browser } from 'playwright-core';
import { CHROMIUM } from './environment';

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

export interface BrowserOptions {
  /** Without devices, the browser has no camera and no microphone at all. */
  devices?: boolean;
  framesPerSecond?: number;
}

export function launch({ devices = true, framesPerSecond = 10 }: BrowserOptions = {}): Promise<Browser> {
  const fake = [`--use-fake-device-for-media-stream=fps=${framesPerSecond}`, '--use-fake-ui-for-media-stream'];
  return chromium.launch({ executablePath: CHROMIUM, args: devices ? [...ARGS, ...fake] : ARGS });
}
