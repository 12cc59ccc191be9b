// The pictures that README.md shows: a storm in the middle, and a way that broke.
//
// In:   a collector with a network that fails again and again, and one small network by name.
// Out:  PICTURES/now.png, time-machine.png.
// Law:  what is shown was measured: nothing is painted.
// Not:  tests (*.test.mjs).

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openBrowser, openPage } from "./browser.mjs";
import { Collector, until } from "./collector.mjs";
import { breakWay, connectRouters, CUSTOMER, NAMED } from "./network.mjs";

const SIZE = { width: 1200, height: 900 };
/** As far down as the ends of both ways. */
const WHOLE_WAY = { width: 1200, height: 1200 };
/** So long the network fails and heals before anybody looks, seconds. */
const STORM_S = Number(process.env.STORM_S ?? 90);

const collector = await Collector.start(`shards = 2\n${NAMED}`);
const browser = await openBrowser();

async function shot(hash, ready, name, worthIt = () => true, size = SIZE) {
  const page = await openPage(browser, `${collector.url}/#${hash}`, { size });
  await page.locator(ready).first().waitFor();
  await until(`${name} is worth a picture`, () => worthIt(page));
  // Charts are drawn for the width of the window: the last of them ends the loading.
  await page.waitForLoadState("load");
  await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`) });
  await page.context().close();
}

try {
  await connectRouters(collector);
  const scenario = join(collector.folder, "storms.toml");
  await writeFile(
    scenario,
    "[[step]]\nmaintenance = { routers = 4, each_ms = 4000 }\n" +
      "[[step]]\nnode-down = { count = 1, restore_after_ms = 6000 }\n" +
      "[[step]]\nflap = { times = 60, down_ms = 1500, up_ms = 2500, up_ms_max = 2500 }\n",
  );
  collector.storm("--routers", "200", "--rate", "100", "--scenario", scenario);
  await until("the network is there", async () => (await collector.api("now")).moment?.sessions.live >= 200);
  const started = Date.now();
  await breakWay(collector);
  await until("the storm was long enough to show", () => Date.now() - started > STORM_S * 1000, STORM_S * 2000);
  const bursting = async (page) => (await page.locator("#verdict").innerText()).includes("burst runs");
  await shot("now", "#chart-mappings svg", "now", bursting);
  const way = new URLSearchParams({ router: "pe1", fec: CUSTOMER, at: "now" });
  const isStepped = (page) => page.getByRole("button", { name: "change before" }).isEnabled();
  await shot(`time-machine?${way}`, "#machine-drawing svg", "time-machine", isStepped, WHOLE_WAY);
} finally {
  await browser.close();
  await collector.stop();
}
