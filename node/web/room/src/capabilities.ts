/**
 * The mediasoup `Device`, made ready before it is needed.
 *
 * A device is loaded from the router's capabilities, which the server tells after the WebSocket has opened. They hardly
 * ever change, so the last ones are remembered, and a page that comes back can send `join` in its first flight. What
 * the server really says is compared afterwards, and a device that was loaded from something else is not used again.
 */
import { Device, type types } from 'mediasoup-client';

const KEY = 'sluice.routerRtpCapabilities';

/** A device and the capabilities, as JSON, that it was loaded from. */
export interface LoadedDevice {
  device: Device;
  source: string;
}

let ready: Promise<LoadedDevice | undefined> | undefined;

async function load(source: string): Promise<LoadedDevice> {
  const device = new Device();
  await device.load({ routerRtpCapabilities: JSON.parse(source) as types.RtpCapabilities });
  return { device, source };
}

function remembered(): string | undefined {
  try {
    return localStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}

/** The device as remembered from an earlier visit; undefined at the first one. */
export function rememberedDevice(): Promise<LoadedDevice | undefined> {
  ready ??= (async () => {
    const source = remembered();
    return source === undefined ? undefined : await load(source).catch(() => undefined);
  })();
  return ready;
}

/** The device for what the server says, which is remembered. Gives `known` back if that fits. */
export async function deviceFor(
  capabilities: types.RtpCapabilities,
  known: LoadedDevice | undefined,
): Promise<LoadedDevice> {
  const source = JSON.stringify(capabilities);
  if (known?.source === source) return known;
  const loaded = await load(source);
  ready = Promise.resolve(loaded);
  try {
    localStorage.setItem(KEY, source);
  } catch {
    // Without storage the next visit just starts from the server's answer.
  }
  return loaded;
}
