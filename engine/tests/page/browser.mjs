// A browser as a person has it: windows, colours, keys; and what it complained about.
//
// In:   where a collector serves its page.
// Out:  pages of a headless Chromium.
// Law:  whatever the page writes to the console as an error, or throws, or fails to load, is kept.
// Not:  the collector (collector.mjs).

import { join } from "node:path";
import axe from "axe-core";
import { chromium } from "playwright-core";
import { PATIENCE_MS } from "./collector.mjs";

/** Sizes of windows. */
export const DESK = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** Starts a browser. */
export function openBrowser() {
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM, args });
}

/** Opens a window on the page; `page.complaints` is what went wrong in it so far. */
export async function openPage(browser, url, { size = DESK, colours = "light", ...options } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: colours, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (said) => {
    if (said.type() === "error") page.complaints.push(`console: ${said.text()}`);
  });
  page.on("pageerror", (error) => page.complaints.push(`thrown: ${error.stack ?? error}`));
  page.on("requestfailed", (request) => {
    // The page breaks off what nobody waits for any more: the stream of a page that is left, a
    // question that another one overtook.
    const isBrokenOff = request.failure()?.errorText === "net::ERR_ABORTED";
    if (!isBrokenOff) page.complaints.push(`not loaded: ${request.url()}`);
  });
  page.on("request", (request) => {
    const foreign = new URL(request.url()).origin !== new URL(url).origin;
    if (foreign) page.complaints.push(`asked elsewhere: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/** Keeps a picture for people to look at. */
export async function picture(page, name) {
  // What stays on top while the rest is scrolled belongs to the top of a picture of all of it.
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });
}

/** What makes the page hard to use for somebody, as `rule: where`; serious and critical alone. */
export async function barriers(page) {
  // Not as a script element: the page's own policy forbids those, and it is to stay in force.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return grave.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.html}`));
}

/** By how many pixels the page is wider than its window. */
export function overhang(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}
