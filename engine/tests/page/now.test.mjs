// The page in front of a collector that is at work: everything loads, everything moves, every number is true.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openPage, picture } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { longDay } from "./network.mjs";

const PARTS = ["now", "bursts", "routers", "time-machine"];

/** Totals of the page, the metric that each of them is, and the column of the ledger. */
const TOTALS = [
  ["received_bytes", "stormdrain_received_bytes_total", "bytes_read"],
  ["framed_bytes", "stormdrain_framed_bytes_total", "bytes_framed"],
  ["mappings", "stormdrain_mappings_framed_total", "mappings_framed"],
  ["changes", "stormdrain_changes_total", "changes"],
  ["confirmed", "stormdrain_confirmed_total", "confirmed"],
  ["duplicates", "stormdrain_duplicates_total", "duplicates"],
  ["frames", "stormdrain_frames_total"],
  ["rows_committed", "stormdrain_rows_committed_total"],
  ["log_written_bytes", "stormdrain_log_written_bytes_total"],
  ["log_syncs", "stormdrain_log_syncs_total"],
  ["connections_accepted", "stormdrain_connections_accepted_total"],
  ["connections_closed", "stormdrain_connections_closed_total"],
  ["sessions_begun", "stormdrain_sessions_begun_total"],
  ["sessions_ended", "stormdrain_sessions_ended_total"],
  ["snapshots_completed", "stormdrain_snapshots_completed_total"],
  ["gaps", "stormdrain_gaps_total"],
];

let collector, browser;

before(async () => {
  [collector, browser] = await Promise.all([Collector.start("shards = 2\n"), openBrowser()]);
});
after(async () => {
  await browser?.close();
  await collector?.stop();
});

/** Everything on the page that is a total, by name, as it stands at one moment. */
const totals = (page) =>
  page.evaluate(() =>
    Object.fromEntries(
      [...document.querySelectorAll("#totals data")].map((one) => [
        one.id.replace("total-", ""),
        Number(one.value),
      ]),
    ),
  );

test("an idle collector's page loads without complaint, and says what to do", async () => {
  const page = await openPage(browser, collector.url);
  await page.locator("#totals data").first().waitFor();
  for (const part of PARTS) {
    await page.goto(`${collector.url}/#${part}`);
    await page.locator(`#part-${part}`).waitFor();
    assert.equal(await page.locator("main > section:visible").count(), 1, part);
    assert.equal(await page.locator(`nav a[aria-current]`).getAttribute("href"), `#${part}`);
    await picture(page, `empty-${part}`);
  }
  assert.match(await page.locator("#machine-none").innerText(), /Pick a router and a FEC/);
  await page.goto(`${collector.url}/#routers`);
  await page.locator("#routers-none").waitFor();
  await page.goto(`${collector.url}/#bursts`);
  await page.locator("#bursts-none").waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("numbers move by themselves while a storm runs", async () => {
  const page = await openPage(browser, collector.url);
  const mappings = page.locator("#total-mappings");
  await mappings.waitFor();
  const seen = new Set();
  collector.storm("--routers", "200", "--rate", "60", "--scenario", await longDay(collector));
  await until("the total of mappings took five values", async () => {
    seen.add(await mappings.getAttribute("value"));
    return seen.size >= 5;
  });
  await until("sessions are live", async () => (await page.locator("#sessions").innerText()).includes("200"));
  await page.locator("#chart-mappings svg").waitFor();
  await picture(page, "now-in-a-storm");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("each number is that of /metrics and of the ledger in the same second", async () => {
  const page = await openPage(browser, collector.url);
  // The storm goes on and off: a second counts in which the metrics stood still around the others.
  const [shown, metrics, ledger] = await until("a second in which nothing moved", async () => {
    const before = await collector.metrics();
    const shown = await totals(page);
    const { code, stdout } = await collector.ask("ledger", "--format", "json");
    assert.equal(code, 0, "the ledger balances");
    const after = await collector.metrics();
    const still = TOTALS.every(([, name]) => before.get(name) === after.get(name));
    const caughtUp = shown.rows_committed === after.get("stormdrain_rows_committed_total");
    return still && caughtUp && shown.mappings > 0 && [shown, after, JSON.parse(stdout)];
  });
  const lines = ledger.lines.filter(({ group }) => group !== "total");
  const booked = (column) => lines.reduce((sum, line) => sum + line[column], 0);
  for (const [name, metric, column] of TOTALS) {
    assert.ok(metrics.has(metric), `${metric} is served`);
    assert.equal(shown[name], metrics.get(metric), name);
    if (column) assert.equal(shown[name], booked(column), `${name} in the ledger`);
  }
  const all = Object.keys(shown).filter((name) => !TOTALS.some(([known]) => known === name));
  assert.deepEqual(all.sort(), ["receive_pauses", "rejected_bytes", "rejected_mappings", "rejections"]);
  assert.equal(shown.rejected_bytes, booked("bytes_rejected"));
  assert.equal(shown.rejected_mappings, booked("mappings_rejected"));
  await page.context().close();
});

test("routers are sorted by their columns and found by what is typed", async () => {
  const page = await openPage(browser, `${collector.url}/#routers`);
  const rows = page.locator("#routers tr");
  await until("all routers are listed", async () => (await rows.count()) === 200);
  const entries = async () =>
    (await page.locator("#routers td:nth-of-type(4)").allInnerTexts()).map((text) => Number(text.replace(/\D/g, "")));
  const head = page.locator('th[data-column="entries"]');
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "ascending");
  const upwards = await entries();
  assert.deepEqual(upwards, upwards.toSorted((one, other) => one - other));
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  assert.equal((await entries())[0], upwards.at(-1));
  const told = JSON.parse((await collector.ask("routers", "--format", "json")).stdout);
  await page.getByLabel("Show those with").fill(told[7].router);
  await until("the others are gone", async () => (await rows.count()) < 200);
  assert.match(await rows.first().innerText(), new RegExp(told[7].router.replaceAll(".", "\\.")));
  await picture(page, "routers");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a burst appears, opens, and shows what the interface says of it", async () => {
  const page = await openPage(browser, `${collector.url}/#bursts`);
  await until("a burst is over", async () => (await collector.api("bursts")).bursts.some((burst) => !burst.is_running));
  const link = page.locator("#bursts a").last();
  await link.waitFor();
  await link.click();
  await page.locator("#burst-mappings svg").waitFor();
  await page.locator("#burst-bytes svg").waitFor();
  const id = new URL(page.url()).hash.split("/")[1];
  const burst = await collector.api(`bursts/${id}`);
  const facts = await page.locator("#burst-facts").innerText();
  assert.ok(facts.includes(burst.mappings.toLocaleString("en")), facts);
  const rows = await page.locator("#burst-moved tr").count();
  assert.equal(rows, Math.max(burst.moved.length, 1));
  await picture(page, "burst");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a collector that goes is missed at once, and found again", async () => {
  // Nobody else listens on this address: it is there again after a restart.
  const other = await Collector.start("", { http: "127.78.0.1:30311" });
  try {
    const page = await openPage(browser, other.url);
    await page.locator("#total-mappings").waitFor();
    await until("it is live", async () => (await page.locator("#connection").innerText()) === "live");
    await other.kill();
    await page.getByText("does not answer").waitFor();
    await other.spawn();
    await until("it is live again", async () => (await page.locator("#connection").innerText()) === "live");
    await page.context().close();
  } finally {
    await other.stop();
  }
});
