/** People who use the room page. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from '@sluice/web-kit/harness/browser';
import { ARTIFACTS, PAGE } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';
import type { Hooks } from '../src/hooks';

type Entry = Record<string, unknown>;

/** What the present consumers of another person have brought so far. */
export interface Progress {
  /** The consumers. */
  of: string;
  frames: number;
  energy: number;
}

/** Somebody with the room page open. */
export class Person {
  /** What the page's console said that it should not have. */
  readonly errors: string[] = [];
  /** How many WebSockets the page has opened. */
  sockets = 0;

  private constructor(
    readonly name: string,
    readonly page: Page,
    private readonly context: BrowserContext,
  ) {
    page.on('console', (message) => {
      if (message.type() === 'error') this.errors.push(message.text());
    });
    page.on('pageerror', (error) => this.errors.push(error.message));
    page.on('websocket', () => this.sockets++);
  }

  /** Opens an address. `prepare` does something to the person's browser before that. */
  static async open(browser: Browser, name: string, url: string, prepare?: (context: BrowserContext) => Promise<unknown>): Promise<Person> {
    // Servers of tests have made their certificates themselves.
    const context = await browser.newContext({ viewport: { width: 1280, height: 760 }, ignoreHTTPSErrors: true });
    if (PAGE) await serveFrom(PAGE, context);
    await prepare?.(context);
    const person = new Person(name, await context.newPage(), context);
    await person.page.goto(url);
    return person;
  }

  /** Opens a room by its address. */
  static join(browser: Browser, name: string, node: string, room: string, more: Record<string, string> = {}): Promise<Person> {
    const query = new URLSearchParams({ roomId: room, displayName: name, ...more });
    return Person.open(browser, name, `${node}/?${query}`);
  }

  /** What a browser's "duplicate tab" gives: the same address, with what the tab has stored. */
  async copyTab(): Promise<Person> {
    const opened = this.context.waitForEvent('page');
    await this.page.evaluate(() => void window.open(location.href));
    return new Person(this.name, await opened, this.context);
  }

  /** Closes all tabs of the person. */
  close(): Promise<void> {
    return this.context.close();
  }

  state(): Promise<string> {
    return this.page.evaluate(() => window.sluice.state());
  }

  inRoom(): Promise<unknown> {
    return eventually(`${this.name} is in the room`, async () => (await this.state()) === 'joined');
  }

  /** The tile of another person, by the name on it. */
  tile(name: string) {
    return this.page.locator('.tile', { has: this.page.locator('.name', { hasText: new RegExp(`^${name}`) }) });
  }

  /** Marks the tile of another person. It keeps the mark for as long as that person does not leave. */
  async markTile(name: string): Promise<void> {
    await this.tile(name).evaluate((element) => element.classList.add('marked'));
  }

  async hasMarkedTile(name: string): Promise<boolean> {
    return (await this.tile(name).and(this.page.locator('.marked')).count()) === 1;
  }

  /** Chooses the quality of another person's picture. */
  async choose(name: string, quality: 'auto' | 'high' | 'medium' | 'low'): Promise<void> {
    await this.page.getByLabel(`Picture quality of ${name}`).selectOption(quality);
  }

  /** How wide a picture arrives: another person's, or their screen's. */
  width(name: string): Promise<number> {
    return this.tile(name).locator('video').evaluate((video: HTMLVideoElement) => video.videoWidth);
  }

  async screenshot(name: string): Promise<void> {
    await this.page.screenshot({ path: join(ARTIFACTS, `${name}.png`) });
  }

  /** By what media come, as the statistics on a tile say. */
  async path(other: string): Promise<string> {
    const term = this.tile(other).locator('.figures', { hasText: 'Path' });
    return (await term.count()) === 1 ? ((await term.innerText()).match(/Path\s+(.+)/)?.[1] ?? '') : '';
  }

  consumers(): Promise<ReturnType<Hooks['consumers']>> {
    return this.page.evaluate(() => window.sluice.consumers());
  }

  async stats(): Promise<{ recv: Entry[]; send: Entry[] }> {
    return (await this.page.evaluate(() => window.sluice.stats())) as { recv: Entry[]; send: Entry[] };
  }

  /** What has arrived of another person. */
  async progressOf(other: string): Promise<Progress> {
    const [consumers, { recv }] = await Promise.all([this.consumers(), this.stats()]);
    const idOf = (kind: string) => consumers.find((consumer) => consumer.name === other && consumer.source === kind)?.id;
    const figure = (kind: string, name: string) => {
      const id = idOf(kind);
      const entry = recv.find((entry) => entry['type'] === 'inbound-rtp' && entry['trackIdentifier'] === id);
      return Number(entry?.[name] ?? 0);
    };
    const of = `${idOf('video')}, ${idOf('audio')}`;
    return { of, frames: figure('video', 'framesDecoded'), energy: figure('audio', 'totalAudioEnergy') };
  }

  /** Waits until more frames and more sound of another person have arrived than now. */
  async seesAndHears(other: string, frames = 10): Promise<void> {
    let before: Progress | undefined;
    await eventually(
      `${this.name} sees and hears ${other}`,
      async () => {
        const now = await this.progressOf(other);
        // Whoever comes again is received anew, and counts from nought.
        if (before?.of !== now.of) before = now;
        return now.frames >= before.frames + frames && now.energy > before.energy;
      },
      60_000,
    );
  }

  /** Writes to everybody. */
  async write(text: string): Promise<void> {
    await this.openChat();
    const field = this.page.getByLabel('Message to everybody');
    await field.fill(text);
    await field.press('Enter');
  }

  /** Waits until there is a message of another person with this text. */
  async readsOf(other: string, text: string): Promise<void> {
    await this.openChat();
    const message = this.page.locator('.message', { has: this.page.locator('b', { hasText: other }) });
    await eventually(`${this.name} reads what ${other} wrote`, async () =>
      (await message.locator('.message-text').allTextContents()).includes(text),
    );
  }

  private async openChat(): Promise<void> {
    const button = this.page.locator('#chat');
    if ((await button.getAttribute('aria-expanded')) === 'false') await button.click();
  }

  /** The SRTP ciphers of the transports in use. */
  async ciphers(): Promise<unknown[]> {
    const { recv, send } = await this.stats();
    return [...recv, ...send].filter((entry) => entry['type'] === 'transport').map((entry) => entry['srtpCipher']);
  }
}

async function serveFrom(folder: string, context: BrowserContext): Promise<void> {
  // A page that no server of this machine has sent may not talk to one unasked.
  await context.grantPermissions(['local-network-access', 'camera', 'microphone', 'clipboard-read', 'clipboard-write']);
  for (const name of await readdir(folder)) {
    const isPage = ({ pathname }: URL) => pathname === `/${name}` || (pathname === '/' && name === 'index.html');
    await context.route(isPage, (route) => route.fulfill({ path: join(folder, name) }));
  }
}

/** Two people come into a room, Alice at the first of two nodes and Bob at the second, until they see and hear each other. */
export async function meet(browser: Browser, nodes: string[], room: string, more: Record<string, string> = {}): Promise<[Person, Person]> {
  const joining = ['Alice', 'Bob'].map((name, index) => Person.join(browser, name, nodes[index] ?? '', room, more));
  const [alice, bob] = (await Promise.all(joining)) as [Person, Person];
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await seeAndHear(alice, bob);
  return [alice, bob];
}

/** Waits until both see and hear each other. */
export async function seeAndHear(alice: Person, bob: Person): Promise<void> {
  await Promise.all([alice.seesAndHears(bob.name), bob.seesAndHears(alice.name)]);
}

/** Marks the tile of each in the other's page. Whether both are there still, {@link haveMarkedTiles} tells. */
export async function markTiles(alice: Person, bob: Person): Promise<void> {
  await Promise.all([alice.markTile(bob.name), bob.markTile(alice.name)]);
}

/** Whether nobody has left since {@link markTiles}. */
export async function haveMarkedTiles(alice: Person, bob: Person): Promise<boolean> {
  return (await alice.hasMarkedTile(bob.name)) && bob.hasMarkedTile(alice.name);
}
