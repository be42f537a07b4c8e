/** The page in a browser, with runs that the Rust tests made up and put into it. */
import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { type Browser, type Page, launch } from '@sluice/web-kit/harness/browser';
import { ARTIFACTS, TARGET } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';

/** Where `cargo test --workspace --test report` puts the pages. */
const PAGES = resolve(process.env['E2E_REPORTS'] ?? join(TARGET, 'tmp/report'));

const CHARTS = [
  'users', 'join-time', 'failed-joins', 'audio-delay', 'video-delay', 'audio-loss', 'video-loss', 'freezes', 'bitrate',
  'audio-bitrate', 'video-bitrate', 'frame-rate', 'data-delay', 'data-loss', 'data-violations', 'data-messages', 'node-cpu', 'node-packets', 'node-memory', 'node-drops', 'generator-cpu',
  'generator-lag', 'generator-drops',
];
const SIZES = { desktop: { width: 1280, height: 900 }, telephone: { width: 390, height: 844 } };
/** Pixels of a chart's lines that are surely there, if only one flat line was drawn. */
const LINE_PIXELS = 150;

let browser: Browser;

before(async () => {
  browser = await launch({ devices: false });
});

after(() => browser?.close());

/** A report, and what it did that it should not have done. */
class Report {
  readonly complaints: string[] = [];

  private constructor(readonly page: Page) {}

  static async open(name: string, options: { size: keyof typeof SIZES; colorScheme: 'light' | 'dark' }): Promise<Report> {
    const context = await browser.newContext({ viewport: SIZES[options.size], colorScheme: options.colorScheme });
    const report = new Report(await context.newPage());
    const url = pathToFileURL(join(PAGES, name)).href;
    report.page.on('console', (message) => report.complaints.push(message.text()));
    report.page.on('pageerror', (error) => report.complaints.push(error.message));
    report.page.on('request', (request) => {
      if (request.url() !== url) report.complaints.push(`asked for ${request.url()}`);
    });
    await report.page.goto(url);
    return report;
  }

  /** For each chart, the pixels that are neither grey nor transparent: of the lines, not of axes, grid and words. */
  linePixels(): Promise<Record<string, number>> {
    return this.page.evaluate(() => {
      const coloured = (canvas: HTMLCanvasElement) => {
        const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let at = 0; at < data.length; at += 4) {
          const [red = 0, green = 0, blue = 0, alpha = 0] = data.slice(at, at + 4);
          if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 90) count++;
        }
        return count;
      };
      const figures = [...document.querySelectorAll<HTMLElement>('figure')].map((figure) => {
        const canvas = figure.querySelector('canvas');
        return [figure.dataset['chart'] ?? '', canvas ? coloured(canvas) : 0] as const;
      });
      return Object.fromEntries(figures);
    });
  }

  /** Every chart is there, drawn, as wide as its place, and within the page. */
  async isDrawn(): Promise<void> {
    const pixels = await eventually('all charts are drawn', async () => {
      const pixels = await this.linePixels();
      return Object.values(pixels).every((count) => count > LINE_PIXELS) && pixels;
    });
    assert.deepEqual(Object.keys(pixels).sort(), [...CHARTS].sort());
    assert.equal(await this.page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'the page scrolls sideways');
  }

  async screenshot(name: string): Promise<void> {
    await this.page.screenshot({ path: join(ARTIFACTS, `report-${name}.png`), fullPage: true });
  }

  async close(): Promise<void> {
    await this.page.context().close();
    assert.deepEqual(this.complaints, []);
  }
}

for (const name of ['run', 'comparison']) {
  for (const size of ['desktop', 'telephone'] as const) {
    for (const colorScheme of ['light', 'dark'] as const) {
      test(`${name}, ${size}, ${colorScheme}`, async () => {
        const report = await Report.open(`${name}.html`, { size, colorScheme });
        await report.isDrawn();
        await report.screenshot(`${name}-${size}-${colorScheme}`);
        await report.close();
      });
    }
  }
}

test('users and a percentile can be chosen', async () => {
  const report = await Report.open('run.html', { size: 'desktop', colorScheme: 'light' });
  const { page } = report;
  const lines = () => page.locator('[data-chart="video-delay"] .u-series .u-label').allInnerTexts();
  assert.equal((await lines()).length, 7);
  await page.getByLabel('Users', { exact: true }).selectOption('region:eu');
  assert.deepEqual(await lines(), ['Time', 'speaker @ eu-1', 'viewer @ eu-1']);
  await page.getByLabel('Users', { exact: true }).selectOption('group:viewer @ ap-1');
  assert.deepEqual(await lines(), ['Time', 'p99', 'p90', 'p50']);
  await page.getByLabel('Users', { exact: true }).selectOption('all');
  await page.getByLabel('Delay', { exact: true }).selectOption('p50_ms');
  await page.getByText('p50 of each group').first().waitFor();
  await report.isDrawn();
  await report.close();
});

test('the pointer tells the figures of its time in every chart', async () => {
  const report = await Report.open('comparison.html', { size: 'desktop', colorScheme: 'dark' });
  await report.page.locator('[data-chart="video-loss"] .u-over').hover();
  const value = (chart: string) => report.page.locator(`[data-chart="${chart}"] .u-series .u-value`).allInnerTexts();
  await eventually('all charts tell the same time', async () => {
    const times = await Promise.all(CHARTS.map(async (chart) => (await value(chart))[0]));
    return /^\d+ s$/.test(times[0] ?? '') && times.every((time) => time === times[0]);
  });
  for (const figure of (await value('video-loss')).slice(1)) assert.match(figure, /^[\d.]+ %$/);
  await report.close();
});

test('charts and tables have words for those who do not see them', async () => {
  const report = await Report.open('comparison.html', { size: 'desktop', colorScheme: 'light' });
  const labels = await report.page.getByRole('img').evaluateAll((images) => images.map((image) => image.getAttribute('aria-label')));
  assert.equal(labels.length, CHARTS.length);
  for (const label of labels) assert.match(label ?? '', /^Line chart over time\. .+: from .+ to .+\.$/);
  const captions = await report.page.locator('table:not(.u-legend)').evaluateAll((tables) => tables.map((table) => table.querySelector('caption')?.textContent));
  assert.ok(captions.length >= 13 && captions.every(Boolean), String(captions));
  await report.close();
});

test('paper is light, and charts fit on it', async () => {
  const report = await Report.open('run.html', { size: 'desktop', colorScheme: 'dark' });
  await report.page.evaluate(() => dispatchEvent(new Event('beforeprint')));
  await report.page.emulateMedia({ media: 'print' });
  await report.page.setViewportSize({ width: 718, height: 1000 });
  await report.isDrawn();
  await report.screenshot('print');
  await report.page.emulateMedia({ media: 'screen' });
  await report.page.evaluate(() => dispatchEvent(new Event('afterprint')));
  await report.isDrawn();
  await report.close();
});

test('a run that measured nothing says why', async () => {
  const report = await Report.open('stillborn.html', { size: 'telephone', colorScheme: 'light' });
  await report.page.getByText('Not judged').waitFor();
  await report.page.getByText('The run was aborted after 0.4 s: no node answers').waitFor();
  assert.equal(await report.page.locator('figure').count(), 0);
  await report.screenshot('stillborn');
  await report.close();
});
