// The time machine: the way that is drawn is the way that the command line prints, then and now.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openPage, picture } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { breakWay, connectRouters, CUSTOMER, NAMED, tellRare, TREE } from "./network.mjs";

let collector, browser, whole, broken;

/** Waits until the log says this of the customer's way; returns an instant at which it is so. */
function settled(verdict) {
  return until(`the way is ${verdict}`, async () => {
    const at = new Date().toISOString();
    return (await traced(at)).verdict === verdict && at;
  });
}

async function traced(at) {
  const words = ["--router", "pe1", "--fec", CUSTOMER, "--at", at];
  const { stdout } = await collector.ask("trace", ...words, "--format", "json");
  const { stdout: tree } = await collector.ask("trace", ...words);
  return { ...JSON.parse(stdout || "{}"), tree: tree.trim() };
}

before(async () => {
  [collector, browser] = await Promise.all([Collector.start(NAMED), openBrowser()]);
  await connectRouters(collector);
  whole = await settled("delivered");
  await breakWay(collector);
  broken = await settled("broken");
  await tellRare(collector);
});
after(async () => {
  await browser?.close();
  await collector?.stop();
});

const link = (at, fec = CUSTOMER) =>
  `${collector.url}/#time-machine?${new URLSearchParams({ router: "pe1", fec, at })}`;

/** Strokes of the drawing by what their colour means on the page, and its texts. */
const parts = (page) =>
  page.locator("#machine-drawing svg").evaluate((svg) => {
    const style = getComputedStyle(document.documentElement);
    const shade = (name) => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = style.getPropertyValue(name);
      const computed = getComputedStyle(probe).color;
      probe.remove();
      return computed;
    };
    const [bad, good, ink] = ["--bad", "--good", "--soft"].map(shade);
    const count = (colour, kinds) =>
      [...svg.querySelectorAll(kinds)].filter((one) => getComputedStyle(one).stroke === colour).length;
    return {
      bad: count(bad, "polyline, line, rect"), good: count(good, "polyline, line, rect"),
      ways: count(ink, "polyline, line"),
      texts: [...svg.querySelectorAll("text")].map((text) => text.textContent.trim()),
    };
  });

for (const [name, instant] of [["whole", () => whole], ["broken", () => broken]]) {
  test(`a ${name} way is drawn as it is printed`, async () => {
    const page = await openPage(browser, link(instant()));
    await page.locator("#machine-drawing svg").waitFor();
    const trace = await traced(instant());
    const shown = await page.locator("#machine-tree").textContent();
    assert.equal(shown.trim(), trace.tree);
    const verdict = await page.locator("#machine-verdict").innerText();
    assert.ok(verdict.endsWith(trace.verdict), verdict);
    const words = await page.locator("#machine-drawing svg").evaluate((svg) => svg.textContent);
    for (const expected of ["pe1", "p2", "p4", "12 13", "24 13"]) {
      assert.ok(words.includes(expected), `${expected} in ${words}`);
    }
    assert.equal(/broken|withdrawn/.test(words), name === "broken", words);
    const { bad, good, texts } = await parts(page);
    // The break is a box of its own, and the way into it, in the colour of what is bad.
    assert.equal(texts.filter((text) => text === "✕ broken").length, name === "broken" ? 1 : 0);
    // Both ways come together before they end.
    assert.equal(texts.filter((text) => text === "✓ delivered").length, 1);
    assert.ok(good > 0 && bad > 0 === (name === "broken"), `${good} good, ${bad} bad`);
    assert.ok(texts.includes("push: ECMP over 2"), texts.join());
    const told = await page.locator("#machine-ways").innerText();
    assert.equal(told, name === "broken" ? "2 ways: 1 broken, 1 delivered" : "2 ways: 2 delivered");
    const troubles = await page.locator("#machine-troubles li").allInnerTexts();
    assert.equal(troubles.length, name === "broken" ? 1 : 0);
    await picture(page, `time-machine-${name}`);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

test("a backup is grey, and followed when that is asked for", async () => {
  const page = await openPage(browser, link("now", "ip:192.0.2.3/32"));
  await until("the backup is drawn", async () => (await parts(page)).texts.includes("– backup"));
  assert.ok((await parts(page)).texts.includes("push, 1 backup"));
  await picture(page, "time-machine-backup");
  await page.getByLabel("follow backups").check();
  await until("it is followed", async () => {
    const { texts } = await parts(page);
    return texts.includes("p2") && !texts.includes("– backup");
  });
  assert.ok(page.url().includes("with_backups=true"), page.url());
  await picture(page, "time-machine-with-backups");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a discard is an end of its own, and a table that has what another lacks is a link", async () => {
  const page = await openPage(browser, link("now", "ip:10.8.0.1/32"));
  await until("it is discarded", async () => (await parts(page)).texts.includes("⊘ discarded"));
  assert.equal(await page.locator("#machine-verdict").getAttribute("class"), "verdict drop");
  await picture(page, "time-machine-discard");
  await page.goto(link("now", "ip:192.168.61.0/24"));
  const hint = page.getByRole("link", { name: "table 10 of this router has 192.168.61.0/24" });
  await hint.waitFor();
  await picture(page, "time-machine-hint");
  await hint.click();
  await until("the other table is shown", async () => (await parts(page)).texts.includes("push"));
  assert.equal(await page.locator("#machine-hints li").count(), 0);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a router whose table was not read in full is known in part", async () => {
  const page = await openPage(browser, `${collector.url}/#routers`);
  const rows = page.locator("#routers tr", { hasText: "192.0.2.9" });
  await until("it says so", async () => /in part: fec-invalid, since /.test(await rows.innerText()));
  await picture(page, "routers-in-part");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a step back from now leaves now, in whatever part of a second", async () => {
  const page = await openPage(browser, link("now"));
  await page.locator("#machine-drawing svg").waitFor();
  for (const milliseconds of [100, 450, 700]) {
    await page.evaluate((late) => { const now = 1_800_000_000_000 + late; Date.now = () => now; }, milliseconds);
    await page.evaluate(() => { location.hash = location.hash.replace(/at=[^&]*/, "at=now"); });
    await until("it is now", () => /at=now/.test(page.url()));
    await page.locator("#machine-near").press("ArrowLeft");
    await until("it is another instant", () => /at=2027-01-15/.test(page.url()));
  }
  await page.context().close();
});

test("every branch of a tree is drawn, as a copy and not as a choice", async () => {
  const page = await openPage(browser, link(whole, TREE));
  await page.locator("#machine-drawing svg").waitFor();
  const { texts, ways } = await parts(page);
  for (const expected of ["replicate: 2 copies", "[31] via 192.0.2.2", "[32] via 192.0.2.4", "p2", "p4"]) {
    assert.ok(texts.includes(expected), `${expected} in ${texts.join()}`);
  }
  assert.equal(texts.filter((text) => text === "✓ delivered").length, 2);
  // Two ways and their arrows, whole; a choice is dashed, and a dash is a stroke of its own.
  assert.equal(ways, 4);
  await picture(page, "time-machine-tree");
  await page.goto(link(whole));
  await until("the choice is drawn", async () => (await parts(page)).texts.includes("push: ECMP over 2"));
  assert.ok((await parts(page)).ways > 20);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("the instant is picked by the second, by the minute, and from change to change", async () => {
  const page = await openPage(browser, link(broken));
  await page.locator("#machine-drawing svg").waitFor();
  const at = () => new URLSearchParams(new URL(page.url()).hash.split("?")[1]).get("at");
  // Whole milliseconds: fractions of seconds do not add up.
  const passed = () => Date.parse(at()) - Date.parse(broken);
  const near = page.locator("#machine-near");
  await near.focus();
  // Whole seconds, from wherever the instant was.
  await near.press("ArrowLeft");
  await until("the whole second before", () => /:\d\dZ$/.test(at()) && passed() > -1e3);
  assert.equal(await page.locator("#machine-at").inputValue(), at());
  const second = passed();
  await near.press("ArrowLeft");
  await until("a second earlier", () => passed() === second - 1e3);
  await near.press("Shift+ArrowLeft");
  await until("a minute earlier", () => passed() === second - 61e3);
  await near.press("Shift+ArrowRight");
  await near.press("ArrowRight");
  await until("back again", () => passed() === second);
  await near.press("PageDown");
  await until("an hour earlier", () => passed() === second - 3600e3);
  await page.locator("#machine-verdict").getByText(/: unknown$/).waitFor();
  // By hand: the lower slider has a place for each second of ten minutes, the upper one of the day.
  assert.equal(await near.evaluate((one) => Number(one.max)), 600);
  assert.equal(await page.locator("#machine-slider").evaluate((one) => Number(one.max)), 86400);
  const before = at();
  await near.fill(String(Number(await near.inputValue()) + 7));
  await until("seven seconds later", () => Date.parse(at()) - Date.parse(before) === 7e3);
  // To the change before, without a hand off the keys.
  await page.goto(link(broken));
  await until("there is a change before", () => page.locator("#machine-previous").isEnabled());
  await near.focus();
  await near.press("Control+ArrowLeft");
  await until("the change", async () => (await page.locator("#machine-verdict").innerText()).includes(at()?.slice(0, 26)));
  assert.notEqual(at(), broken);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a router and a FEC are picked, and steps lead to the change before and back", async () => {
  const page = await openPage(browser, `${collector.url}/#time-machine`);
  await page.getByRole("combobox", { name: "Router" }).fill("pe1");
  await page.getByRole("combobox", { name: "Router" }).press("Tab");
  await until("its FECs are offered", async () =>
    (await page.locator("#machine-fecs option").evaluateAll((all) => all.map((one) => one.value))).includes(CUSTOMER),
  );
  await page.getByLabel("FEC or label").fill(CUSTOMER);
  await page.getByRole("button", { name: "Show" }).click();
  const verdict = page.locator("#machine-verdict");
  await page.getByText(/: broken$/).first().waitFor();
  const before = page.getByRole("button", { name: "change before" });
  await until("there is a change before", () => before.isEnabled());
  await before.click();
  await until("the way before is shown", async () => /at=\d{4}/.test(page.url()));
  const at = new URLSearchParams(new URL(page.url()).hash.split("?")[1]).get("at");
  await until("the step is drawn", async () => (await verdict.innerText()).includes(at.slice(0, 19)));
  assert.equal((await page.locator("#machine-tree").textContent()).trim(), (await traced(at)).tree);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("what is asked wrongly is answered in words, not by an empty page", async () => {
  const page = await openPage(browser, `${collector.url}/#time-machine?router=nobody&fec=ip:10.0.0.3/32`);
  const error = page.locator("#machine-error");
  await until("the error is told", async () => (await error.innerText()).length > 0);
  assert.match(await error.innerText(), /nobody/);
  await page.goto(`${collector.url}/#bursts/17`);
  await page.getByText("No such burst").waitFor();
  await page.context().close();
});
