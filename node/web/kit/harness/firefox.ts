/** Firefox without a window, with fake cameras and microphones: driven over WebDriver BiDi, which Playwright does not speak. */
import { launch, type Browser } from 'puppeteer-core';
import type { AnyPage } from './browser';
import { FIREFOX } from './environment';

export class Firefox {
  private constructor(private readonly browser: Browser) {}

  /** `secure`: hosts whose pages may do what others may only by HTTPS or from this machine. */
  static async launch(secure: string[] = []): Promise<Firefox> {
    const browser = await launch({
      browser: 'firefox',
      executablePath: FIREFOX,
      extraPrefsFirefox: {
        'media.navigator.streams.fake': true,
        'media.navigator.permission.disabled': true,
        // Sound is played of itself, also by pages that record none.
        'media.autoplay.default': 0,
        'dom.securecontext.allowlist': secure.join(),
      },
    });
    return new Firefox(browser);
  }

  async newPage(): Promise<AnyPage> {
    // Puppeteer's types differ where arguments are handles of something in the page, which here none are.
    return (await this.browser.newPage()) as unknown as AnyPage;
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}
