/** What runs in a browser's page: a client with one of several versions of mediasoup-client. */
import { Device as Device324, type types } from 'mediasoup-client';
import { Device as Device36 } from 'mediasoup-client-3.6';
import { Device as Device37 } from 'mediasoup-client-3.7';
import { Client, type Options } from './client';

/** The versions, as `package.json` pins them. */
const DEVICES = { '3.24.1': Device324, '3.7.16': Device37, '3.6.103': Device36 };

export type Version = keyof typeof DEVICES;

declare global {
  interface Window {
    client: Client;
    join(version: Version, options: Options): Promise<void>;
  }
}

window.join = (version, options) => {
  // What is used of a device has the same types in all of them.
  const device = new DEVICES[version]() as unknown as types.Device;
  window.client = new Client(device, options);
  return window.client.join();
};
