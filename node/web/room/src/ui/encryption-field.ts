/** The switch of end-to-end encryption. */
import { Encryption, newPassphrase } from '../encryption';
import { toggle } from './fields';

export class EncryptionField {
  readonly element: HTMLElement;
  private readonly input: HTMLInputElement;
  /** Ends the updating of the field. */
  readonly close: () => void;

  constructor(private readonly encryption: Encryption) {
    const hint = Encryption.supported
      ? 'The key is in the link to the room; the server never gets it.'
      : 'This browser cannot do that, or the page is not served over HTTPS.';
    const field = toggle('encryption', 'End-to-end encryption', hint, (on) => {
      encryption.setPassphrase(on ? newPassphrase() : undefined);
    });
    this.element = field.element;
    this.input = field.input;
    this.close = encryption.on('change', () => this.render());
    this.render();
  }

  private render(): void {
    this.input.checked = this.encryption.passphrase !== undefined;
    // What the address asks for and the browser cannot do must be possible to give up.
    this.input.disabled = !Encryption.supported && !this.input.checked;
  }
}
