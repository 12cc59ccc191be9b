// The time machine: the way that is drawn is the way that the command line prints, then and now.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openPage, picture } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { breakWay, connectRouters, CUSTOMER, NAMED } from "./network.mjs";

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
});
after(async () => {
  await browser?.close();
  await collector?.stop();
});

const link = (at) =>
  `${collector.url}/#time-machine?${new URLSearchParams({ router: "pe1", fec: CUSTOMER, at })}`;

const drawn = (page) => page.locator("#machine-drawing svg").innerText();

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
    await picture(page, `time-machine-${name}`);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

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
