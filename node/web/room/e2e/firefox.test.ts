/** Somebody who has Firefox and somebody who has Chromium, on two nodes of one `sluice dev` mesh. */
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { launch, type AnyPage, type Browser } from '@sluice/web-kit/harness/browser';
import { FIREFOX } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Firefox } from '@sluice/web-kit/harness/firefox';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome } from '@sluice/web-kit/harness/namespace';
import { seesAndHears } from '../harness/any-page';

const ROOM = 'two browsers';

/** Opens the chat of the page, which shows no messages before. */
function openChat(page: AnyPage): Promise<void> {
  return page.evaluate(() => {
    const button = document.querySelector<HTMLElement>('#chat');
    if (button?.getAttribute('aria-expanded') === 'false') button.click();
  }, undefined);
}

/** Writes in the chat of the page. */
function write(page: AnyPage, text: string): Promise<void> {
  return page.evaluate((text: string) => {
    const field = document.querySelector<HTMLTextAreaElement>('#chat-text');
    if (!field) throw new Error('there is no chat');
    field.value = text;
    field.dispatchEvent(new Event('input'));
    field.form?.requestSubmit();
  }, text);
}

/** Whether something that a selector finds has this text. */
function shows(page: AnyPage, selector: string, text: string): Promise<boolean> {
  return page.evaluate(
    ([selector, text]: [string, string]) => [...document.querySelectorAll(selector)].some(({ textContent }) => textContent === text),
    [selector, text],
  );
}

function tests(): void {
  describe('Firefox and Chromium', { skip: existsSync(FIREFOX) ? false : 'Firefox is not installed' }, () => {
    let mesh: Mesh;
    let chromium: Browser;
    let firefox: Firefox;
    let people: Record<'Cleo' | 'Fay', AnyPage>;

    before(async () => {
      mesh = await Mesh.dev('firefox', 2);
      [chromium, firefox] = await Promise.all([launch(), Firefox.launch()]);
    });

    after(async () => {
      await firefox?.close();
      await chromium?.close();
      await mesh?.stop();
    });

    test('each sees and hears the other', async () => {
      people = { Cleo: await chromium.newPage(), Fay: await firefox.newPage() };
      for (const [index, [name, page]] of Object.entries(people).entries()) {
        await page.goto(`${mesh.nodes[index]?.users}/?${new URLSearchParams({ roomId: ROOM, displayName: name })}`);
      }
      await Promise.all(Object.entries(people).map(([name, page]) => seesAndHears(name, page)));
    });

    test('each reads what the other writes, and sees the hand', async () => {
      await Promise.all(Object.values(people).map(openChat));
      for (const [writer, reader] of [[people.Cleo, people.Fay], [people.Fay, people.Cleo]] as const) {
        const text = `from ${writer === people.Fay ? 'Fay' : 'Cleo'}`;
        await write(writer, text);
        await eventually(`the text ${text} is read`, () => shows(reader, '.message:not(.own) .message-text', text));
        await writer.evaluate(() => document.querySelector<HTMLElement>('#hand')?.click(), undefined);
        const place = writer === people.Fay ? '2' : '1';
        await eventually(`the hand ${text} is seen`, () => shows(reader, '.tile:not(.self) .hand', place));
      }
    });
  });
}

// Firefox sends no media to loopback addresses: where there are no others, the test makes one.
const connected = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ internal, family }) => !internal && family === 'IPv4'));
if (connected) tests();
else atHome('Firefox and Chromium', [], tests);
