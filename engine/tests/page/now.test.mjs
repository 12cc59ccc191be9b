// The page in front of a collector that is at work: everything loads, everything moves, every number is true.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openPage, picture } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { flapping, longDay } from "./network.mjs";
import { expected, gained, isWrittenAs, kernelMetric, Readings, shown } from "./numbers.mjs";

const PARTS = ["now", "bursts", "routers", "time-machine"];

/** Totals of the page, and the column of the ledger. */
const BOOKED = {
  received_bytes: "bytes_read", framed_bytes: "bytes_framed", mappings: "mappings_framed",
  changes: "changes", confirmed: "confirmed", duplicates: "duplicates",
  rejected_bytes: "bytes_rejected", rejected_mappings: "mappings_rejected",
};
/** Text of *Now* with digits in it that are no numbers of the collector. */
const NO_NUMBERS = [/^ ?in 10 ms$/, /^The totals of/, /^Sockets are read by/, /^docs\//];

/** Whether words say this value: a need of the plan has a unit of its own, a stall is microseconds. */
function isWritten(of, value, words) {
  if (of.startsWith("plan.")) return isWrittenAs(value, words.split(" ")[0]);
  return isWrittenAs(of.startsWith("kernel.") && of.endsWith("_us") ? value / 1e3 : value, words);
}

let collector, browser;

before(async () => {
  [collector, browser] = await Promise.all([Collector.start("shards = 2\n"), openBrowser()]);
});
after(async () => {
  await browser?.close();
  await collector?.stop();
});

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
  // The plan is asked for every few seconds, and what changes by the second goes on in it.
  const plans = [];
  page.on("response", async (answer) => {
    if (answer.url().endsWith("/plan")) plans.push(await answer.json());
  });
  const readings = new Readings(collector);
  await until("the page has a plan of the network that is there", () =>
    plans.find(({ measured, routers }) => measured && routers === 200),
  );
  // The storm goes on and off: a second counts in which the metrics stood still around the others.
  const [now, read, ledger, plan] = await until("a second in which nothing moved", async () => {
    const now = await shown(page);
    if (!readings.isEarlier(now.time_us)) return false;
    const { code, stdout } = await collector.ask("ledger", "--format", "json");
    assert.equal(code, 0, "the ledger balances");
    const [before, after] = await readings.awaitAround(now.time_us, Date.now() * 1e3);
    const [earlier, later] = [expected(before, 2), expected(after, 2)];
    const still = Object.keys(later).every((of) => earlier[of] === later[of]);
    const pages = now.data.find(({ of }) => of === "kernel.tcp_pages")?.value;
    const isSeen = [before, after].some((read) => read.get("stormdrain_tcp_memory_pages") === pages);
    const disk = now.data.find(({ of }) => of === "plan.disk per day.value").value;
    const plan = plans.findLast(({ summary, needs }) =>
      now.loose.includes(summary) && needs.some(({ name, value }) => name === "disk per day" && value === disk),
    );
    const isWhole = later["totals.mappings"] > 0 && plan?.routers === later["sessions.routers"];
    return still && isSeen && isWhole && [now, after, JSON.parse(stdout), plan];
  });
  await readings.stop();
  const wanted = expected(read, 2);
  const lines = ledger.lines.filter(({ group }) => group !== "total");
  for (const [total, column] of Object.entries(BOOKED)) {
    const booked = lines.reduce((sum, line) => sum + line[column], 0);
    assert.equal(wanted[`totals.${total}`], booked, `${total} in the ledger`);
  }
  const { moments } = await collector.api("moments");
  const at = moments.findIndex(({ time_us }) => time_us === now.time_us);
  const moment = moments[at];
  const minute = moments.slice(Math.max(at - 59, 0), at + 1);
  const kernel = (of) => {
    const [, which, counter] = /^kernel\.(sum|last)\.(.*)$/.exec(of);
    const of_moments = which === "last" ? [moment] : moments.slice(0, at + 1);
    const moved = of_moments.flatMap((one) => one.kernel.moved).filter((one) => one.counter === counter);
    return moved.reduce((sum, { by }) => sum + by, 0);
  };
  /** What /metrics does not keep: what came in this second, in the last minute, and the plan. */
  const told = (of) => {
    const [kind, place, what] = of.split(".");
    if (kind === "time_us") return moment.time_us;
    // What these are beside /metrics the next test says.
    const each = (gained) => Math.round((gained * 1e6) / moment.span_us);
    if (kind === "rate") return each(moment.gained[place]);
    if (kind === "peak") return moment.peak[place];
    if (of === "sessions.blocked_ms") return moment.sessions.blocked_ms;
    if (of === "kernel.tcp_pages") return moment.kernel.tcp_pages;
    if (kind === "kernel") return kernel(of);
    if (kind === "shards" && what === "share") {
      const [own, all] = minute.reduce(([own, all], { shards }) =>
        [own + shards[place].received_bytes, all + shards[0].received_bytes + shards[1].received_bytes], [0, 0]);
      return all && (own * 100) / all;
    }
    if (kind === "shards") return each(moment.shards[place][what]);
    const need = plan.needs.find(({ name }) => name === place);
    return what === "load" ? need[what] * 100 : need[what];
  };
  const seen = new Set();
  for (const { of, value, words } of now.data) {
    seen.add(of);
    const right = of in wanted ? wanted[of] : told(of);
    assert.ok(Math.abs(value - right) <= 1e-6, `${of}: ${value} is shown, ${right} is right`);
    if (of === "time_us") assert.equal(words, new Date(value / 1e3).toISOString().slice(11, 19));
    else assert.ok(isWritten(of, value, words), `${of}: ${value} is written as ${words}`);
  }
  for (const of of Object.keys(wanted)) {
    assert.ok(seen.has(of), `${of} is on the page`);
  }
  const loose = now.loose.filter((text) => !NO_NUMBERS.some((one) => one.test(text)) && text !== plan.summary);
  assert.deepEqual(loose, [], "every number is compared");
  assert.equal(plan.routers, wanted["sessions.routers"]);
  assert.equal(plan.mappings, wanted["sessions.entries"] / wanted["sessions.routers"]);
  const memory = plan.needs.find(({ name }) => name === "collector memory");
  assert.equal(memory.has, read.get("stormdrain_memory_budget_bytes") / 2 ** 20);
  await page.context().close();
});

test("rates, shares and the kernel's counters are what /metrics gained meanwhile", async () => {
  const page = await openPage(browser, collector.url);
  await page.locator("#total-mappings").waitFor();
  const readings = new Readings(collector);
  collector.storm("--routers", "50", "--rate", "60", "--scenario", await flapping(collector), "--seed", "7");
  const seconds = [];
  await until("five seconds in which something came", async () => {
    const now = await shown(page);
    if (readings.isEarlier(now.time_us) && now.time_us !== seconds.at(-1)?.time_us) seconds.push(now);
    const busy = seconds.filter(({ data }) => data.find(({ of }) => of === "rate.mappings").value > 0);
    return busy.length >= 5;
  });
  await readings.awaitAround(seconds[0].time_us, seconds.at(-1).at_us);
  await readings.stop();
  const { moments } = await collector.api("moments");
  let compared = 0;
  for (const [before, now] of seconds.slice(1).map((one, index) => [seconds[index], one])) {
    const moment = moments.find(({ time_us }) => time_us === now.time_us);
    const previous = moments[moments.indexOf(moment) - 1];
    // Where the page showed every second, each begins where the one before ended.
    if (previous?.time_us !== before.time_us) continue;
    const begin = readings.around(before.time_us, before.at_us);
    const end = readings.around(now.time_us, now.at_us);
    if (!begin || !end) continue;
    for (const { of, value } of now.data) {
      const [kind, place, what] = of.split(".");
      const isRate = kind === "rate" || (kind === "shards" && ["mappings", "received_bytes"].includes(what));
      if (isRate) {
        const [low, high] = gained(what ?? place, what ? place : "", begin, end);
        const second = moment.span_us / 1e6;
        assert.ok(value >= Math.floor(low / second) && value <= Math.ceil(high / second),
          `${of}: ${value} is shown, ${low / second} to ${high / second} came`);
      } else if (kind === "peak") {
        const [, high] = gained(place, "", begin, end);
        assert.ok(value <= high, `${of}: ${value} of ${high}`);
      } else if (of.startsWith("kernel.last.") && !of.startsWith("kernel.last.drop.")) {
        // The kernel is asked once a second, not in the moment in which a second ends.
        const [metric, scale] = kernelMetric(of.slice("kernel.last.".length));
        const since = readings.around(before.time_us - 2e6, before.time_us - 2e6) ?? [readings.all[0].values];
        if (!end[1].has(metric)) continue;
        const most = (end[1].get(metric) - (since[0].get(metric) ?? 0)) * scale;
        assert.ok(readings.all[0].after_us > before.time_us - 2e6 || value <= most + 1, `${of}: ${value} of ${most}`);
      }
      compared += 1;
    }
  }
  assert.ok(compared > 50, `${compared} numbers were compared`);
  assert.deepEqual(page.complaints, []);
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
    await page.getByText(/does not answer since .* UTC; what is shown is of then/).waitFor();
    assert.ok(await page.locator("main.old #total-mappings").isVisible(), "it stays, and looks old");
    await other.spawn();
    await until("it is live again", async () => (await page.locator("#connection").innerText()) === "live");
    assert.equal(await page.locator("main.old").count(), 0);
    await page.context().close();
  } finally {
    await other.stop();
  }
});
