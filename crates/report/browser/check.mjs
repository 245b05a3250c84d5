// Opens pages of reports in a real browser and checks what only a browser knows: no console error, no request, no page
// that scrolls sideways, nothing that axe-core finds in light and dark, every stop of the Tab key visible, tables that
// scroll by keyboard, and a print that hides nothing.
//
//   npm ci && node check.mjs [--chromium PATH] [--screenshots DIR] PAGE.html …
//
// Prints one JSON document; exit status 0 where every page passes, 1 where one does not.

import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [1200, 360];
const SCHEMES = ['light', 'dark'];
// A4 less the margins of the style sheet, in CSS pixels.
const PAPER = 703;

const options = { chromium: '/usr/bin/chromium', screenshots: '' };
const pages = [];
for (let i = 2; i < process.argv.length; i++) {
  const name = process.argv[i].replace(/^--/, '');
  if (process.argv[i].startsWith('--') && name in options) options[name] = process.argv[++i];
  else pages.push(process.argv[i]);
}
if (options.screenshots) await mkdir(options.screenshots, { recursive: true });

const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox'] });
const results = [];
for (const path of pages) results.push(await checkPage(path));
await browser.close();
const failed = results.some((result) => result.problems.length > 0);
console.log(JSON.stringify({ passed: !failed, pages: results }, null, 2));
process.exit(failed ? 1 : 0);

async function checkPage(path) {
  const url = pathToFileURL(resolve(path)).href;
  const result = { page: path, requests: 0, focusStops: 0, scrollable: 0, axePasses: 0, pdfBytes: 0, problems: [] };
  for (const scheme of SCHEMES) {
    for (const width of WIDTHS) {
      const where = `${scheme}, ${width} px`;
      await loads(url, scheme, width, where, result);
      await audit(url, path, scheme, width, where, result);
    }
  }
  await keyboard(url, result);
  await print(url, result);
  return result;
}

async function open(url, settings, watch) {
  const context = await browser.newContext(settings);
  const page = await context.newPage();
  if (watch) watch(page);
  await page.goto(url, { waitUntil: 'load' });
  return [context, page];
}

// With the page's own policy in force: whatever it forbids would be an error on the console.
async function loads(url, scheme, width, where, result) {
  const settings = { colorScheme: scheme, viewport: { width, height: 900 } };
  const [context, page] = await open(url, settings, (page) => {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) result.problems.push(`${where}: console: ${message.text()}`);
    });
    page.on('pageerror', (error) => result.problems.push(`${where}: error: ${error.message}`));
    page.on('request', (request) => {
      result.requests += 1;
      if (request.url() !== url) result.problems.push(`${where}: request: ${request.url()}`);
    });
  });
  for (const opened of [false, true]) {
    if (opened) await page.evaluate(() => document.querySelectorAll('details').forEach((own) => (own.open = true)));
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) result.problems.push(`${where}: the page is ${over} px wider than the window${opened ? ', unfolded' : ''}`);
  }
  await context.close();
}

async function audit(url, path, scheme, width, where, result) {
  const settings = { colorScheme: scheme, viewport: { width, height: 900 }, bypassCSP: true };
  const [context, page] = await open(url, settings);
  if (options.screenshots) {
    const file = join(options.screenshots, `${basename(path, '.html')}-${scheme}-${width}.png`);
    await page.screenshot({ path: file, fullPage: true });
  }
  await page.evaluate(() => document.querySelectorAll('details').forEach((own) => (own.open = true)));
  await page.evaluate(AXE);
  const report = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations', 'passes'] }));
  result.axePasses += report.passes.length;
  for (const violation of report.violations) {
    const example = violation.nodes[0];
    result.problems.push(
      `${where}: axe ${violation.id} (${violation.impact}), ${violation.nodes.length} times: ${violation.help}; ` +
        `${example.html.slice(0, 200)}; ${example.any.concat(example.all, example.none).map((c) => c.message).join('; ')}`,
    );
  }
  await context.close();
}

// Tab goes through the page; each stop has an outline, and what overflows scrolls with the arrow keys.
async function keyboard(url, result) {
  const [context, page] = await open(url, { viewport: { width: 360, height: 800 }, bypassCSP: true });
  await page.evaluate(() => document.querySelectorAll('details').forEach((own) => (own.open = true)));
  const expected = await page.evaluate(() => document.querySelectorAll('summary, [tabindex="0"], a[href]').length);
  for (let i = 0; i < expected; i++) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const style = getComputedStyle(element);
      const overflows = element.classList.contains('scroll') && element.scrollWidth > element.clientWidth + 1;
      const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
      return { html: element.outerHTML.slice(0, 120), outlined, overflows };
    });
    if (!stop) {
      result.problems.push(`keyboard: only ${i} of ${expected} elements get the focus`);
      break;
    }
    result.focusStops += 1;
    if (!stop.outlined) result.problems.push(`keyboard: no outline on ${stop.html}`);
    if (stop.overflows && result.scrollable < 3) {
      await page.keyboard.press('ArrowRight');
      await page.waitForFunction(() => document.activeElement.scrollLeft > 0, null, { timeout: 2000 }).catch(() => {
        result.problems.push(`keyboard: does not scroll: ${stop.html}`);
      });
      result.scrollable += 1;
    }
  }
  const unreachable = await page.evaluate(() =>
    [...document.querySelectorAll('main *')]
      .filter((own) => own.scrollWidth > own.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(own).overflowX))
      .filter((own) => own.tabIndex < 0)
      .map((own) => own.outerHTML.slice(0, 120)),
  );
  for (const html of unreachable) result.problems.push(`keyboard: scrolls and gets no focus: ${html}`);
  await context.close();
}

// On paper everything is unfolded, on a light ground, within the width.
async function print(url, result) {
  const [context, page] = await open(url, { viewport: { width: PAPER, height: 1000 }, colorScheme: 'dark', bypassCSP: true });
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  const found = await page.evaluate(() => {
    const hidden = [...document.querySelectorAll('details > *:not(summary)')].filter((own) => own.getBoundingClientRect().height === 0);
    const wide = [...document.querySelectorAll('table, figure, pre')]
      .map((own) => [own.getBoundingClientRect().right - window.innerWidth, own.textContent.trim().slice(0, 60)])
      .filter(([over]) => over > 1);
    return { hidden: hidden.length, wide, colour: getComputedStyle(document.body).color };
  });
  if (found.hidden > 0) result.problems.push(`print: ${found.hidden} folded parts stay hidden`);
  for (const [over, text] of found.wide) result.problems.push(`print: ${Math.round(over)} px too wide: ${text}`);
  const [r, g, b] = found.colour.match(/\d+/g).map(Number);
  if (r + g + b > 300) result.problems.push(`print: light text (${found.colour})`);
  result.pdfBytes = (await page.pdf({ format: 'A4' })).length;
  await context.close();
}
