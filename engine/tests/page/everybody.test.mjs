// The page for everybody: on a phone, in the dark, by keyboard alone, with a screen reader, with a token.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { barriers, DESK, openBrowser, openPage, overhang, PHONE, picture } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { connectRouters, CUSTOMER, longDay, NAMED } from "./network.mjs";

/** What few of the routers have in their ids. */
const FEW = "192.0.2.";

let collector, browser, parts;

before(async () => {
  [collector, browser] = await Promise.all([Collector.start(`shards = 2\n${NAMED}`), openBrowser()]);
  await connectRouters(collector);
  collector.storm("--routers", "200", "--rate", "0", "--scenario", await longDay(collector));
  const burst = await until("a burst is over", async () =>
    (await collector.api("bursts")).bursts.find(({ is_running }) => !is_running),
  );
  const way = new URLSearchParams({ router: "pe1", fec: CUSTOMER, at: "now" });
  parts = {
    now: { hash: "now", ready: "#chart-mappings svg" },
    bursts: { hash: `bursts/${burst.id}`, ready: "#burst-mappings svg" },
    routers: { hash: "routers", ready: "#routers tr" },
    "time-machine": { hash: `time-machine?${way}`, ready: "#machine-drawing svg" },
  };
});
after(async () => {
  await browser?.close();
  await collector?.stop();
});

for (const [name, size] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colours of ["light", "dark"]) {
    test(`on a ${name}, ${colours}: nothing sticks out and nobody is kept out`, async () => {
      for (const [part, { hash, ready }] of Object.entries(parts)) {
        const page = await openPage(browser, `${collector.url}/#${hash}`, { size, colours });
        await page.locator(ready).first().waitFor();
        // A judge of accessibility looks at every cell: a few rows are as good as two hundred.
        if (part === "routers") await page.getByLabel("Show those with").fill(FEW);
        assert.deepEqual(await barriers(page), [], `${part}: axe`);
        assert.ok((await overhang(page)) <= 0, `${part} is wider than its window`);
        await picture(page, `${part}-${name}-${colours}`);
        assert.deepEqual(page.complaints, []);
        await page.context().close();
      }
    });
  }
}

test("by keyboard alone one gets through all four parts", async () => {
  const page = await openPage(browser, collector.url);
  await page.locator(parts.now.ready).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim().slice(0, 40) ?? "");
  const tabTo = (text) =>
    until(`the focus comes to ${text}`, async () => {
      await page.keyboard.press("Tab");
      return (await focused()).includes(text);
    });
  // The first stop leads past what is on every part.
  await page.keyboard.press("Tab");
  assert.match(await focused(), /^Skip to/);
  for (const [name, part] of [["Bursts", "bursts"], ["Routers", "routers"], ["Time machine", "time-machine"], ["Now", "now"]]) {
    await page.locator("nav a").first().focus();
    if (!(await focused()).includes(name)) await tabTo(name);
    const outlined = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outlined, "none", `the focus shows on ${name}`);
    await page.keyboard.press("Enter");
    await page.locator(`#part-${part}`).waitFor();
  }
  // A burst is opened, a column is sorted, a way is asked for, and the slider is moved: no mouse.
  await page.goto(`${collector.url}/#bursts`);
  await page.locator("#bursts a").first().focus();
  await page.keyboard.press("Enter");
  await page.locator("#burst-mappings svg").waitFor();
  await page.goto(`${collector.url}/#routers`);
  await page.locator("#routers tr").first().waitFor();
  await page.locator('th[data-column="entries"] button').focus();
  await page.keyboard.press("Space");
  assert.equal(await page.locator('th[data-column="entries"]').getAttribute("aria-sort"), "ascending");
  await page.goto(`${collector.url}/#time-machine`);
  await page.getByRole("combobox", { name: "Router" }).focus();
  await page.keyboard.type("pe1");
  await page.keyboard.press("Tab");
  await page.keyboard.type(CUSTOMER);
  await page.keyboard.press("Enter");
  await page.locator("#machine-drawing svg").waitFor();
  await page.locator("#machine-slider").focus();
  await page.keyboard.press("ArrowLeft");
  await until("the instant is in the address", () => /at=\d{4}/.test(page.url()));
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a collector that wants a token is opened with it, and not without", async () => {
  const token = "a-token-that-nobody-guesses";
  const file = join(collector.folder, "token");
  await writeFile(file, `${token}\n`, { mode: 0o600 });
  const guarded = await Collector.start(`http_token_file = "${file}"\n`);
  try {
    const page = await openPage(browser, guarded.url);
    await page.getByLabel("Token").waitFor();
    await picture(page, "token");
    await page.getByLabel("Token").fill("a-token-that-is-wrong");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("This is not the token").waitFor();
    assert.equal(await page.locator("#totals data").count(), 0);
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await page.locator("#total-mappings").waitFor();
    await page.reload();
    await page.locator("#total-mappings").waitFor();
    assert.equal((await fetch(`${guarded.url}/metrics`)).status, 401);
    // Another token while the page is open: it asks for that one, says why, and shows nothing else.
    await writeFile(file, "another-token-that-nobody-guesses\n");
    guarded.child.kill("SIGHUP");
    await page.getByText("has another token now").waitFor();
    assert.equal(await page.locator("#total-mappings").isVisible(), false);
    await page.getByLabel("Token").fill("another-token-that-nobody-guesses");
    await page.keyboard.press("Enter");
    await page.locator("#total-mappings").waitFor();
    await until("it is live", async () => (await page.locator("#connection").innerText()) === "live");
    await page.context().close();
  } finally {
    await guarded.stop();
  }
});
