/** What the page and its encrypting worker say to each other. */
import type { Kind } from '../devices';

/** The passphrase from now on; without one nothing can be read and nothing is sent. */
export interface ToWorker {
  passphrase: string | undefined;
  room: string;
}

/** Whether the key fits what a consumer receives. */
export interface FromWorker {
  consumerId: string;
  readable: boolean;
}

/** What a transform is for: a sender, or the consumer of this id. */
export interface TransformOptions {
  kind: Kind;
  consumerId?: string;
}
