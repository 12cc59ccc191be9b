// Small networks that tests know by heart, and large ones that speak for minutes.
//
// In:   a running collector.
// Out:  label tables, sent as anybody with a pipe would; scenarios for stormgen.
// Law:  what a test compares with is written here, not asked of the collector.
// Not:  the collector (collector.mjs).

import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";

/** The FEC whose way from pe1 is looked at. */
export const CUSTOMER = "vrf:192.0.2.3,65000:2";

/** What pe1 sends on to all of p2, p4 and itself: a tree of a multicast. */
export const TREE = "label:30";

/** Names of its routers, for a collector's settings. */
export const NAMED = ["pe1", "p2", "pe3", "p4"]
  .map((name, index) => `[[router]]\nid = "192.0.2.${index + 1}"\nname = "${name}"\n`)
  .join("\n");

/** One mapping; TIME is when it is sent. */
const mapping = (fec, label, origin, operation) =>
  `<mapping timestamp="TIME">${fec}<ingress label="${label}" origin="${origin}"/>${operation}</mapping>`;
const vrf = `<fec type="vrf" loopback="192.0.2.3" rd="65000:2"/>`;
const loopback = `<fec type="ip" prefix="192.0.2.3/32"/>`;
const group = `<fec type="ip" prefix="232.0.0.1/32"/>`;
const branches = (type, ...nhlfes) =>
  `<operation type="${type}">${nhlfes.map(([label, hop]) => `<nhlfe label="${label}" next-hop="${hop}"/>`).join("")}</operation>`;

/** From pe1 to pe3 on two ways, over p2 and over p4; and a tree from pe1 to both. */
const TABLES = {
  "192.0.2.1": [
    mapping(vrf, -1, "untagged", branches("push", [13, "recursive"])),
    mapping(loopback, 13, "service", branches("push", [12, "192.0.2.2"], [24, "192.0.2.4"])),
    mapping(group, 30, "platform", branches("replicate", [31, "192.0.2.2"], [32, "192.0.2.4"])),
  ],
  "192.0.2.2": [
    mapping(loopback, 12, "platform", branches("swap", [3, "192.0.2.3"])),
    mapping(group, 31, "platform", branches("pop", [-1, "FEC"])),
  ],
  "192.0.2.3": [mapping(vrf, 13, "platform", branches("pop", [-1, "FEC"]))],
  "192.0.2.4": [
    mapping(loopback, 24, "platform", branches("swap", [3, "192.0.2.3"])),
    mapping(group, 32, "platform", branches("pop", [-1, "FEC"])),
  ],
};

/** Sends one document on a connection of its own; returns when the collector has taken it. */
async function send(collector, router, mappings, snapshot = "") {
  const [host, port] = collector.listen.split(":");
  const socket = connect(Number(port), host);
  const head = `<label-mappings xmlns="urn:stormdrain:label-mapping:1" router-id="${router}"${snapshot}>`;
  const time = (Date.now() / 1_000).toFixed(6);
  socket.end(`${head}${mappings.join("").replaceAll("TIME", time)}</label-mappings>`);
  socket.resume();
  await once(socket, "close");
}

/** Every router says its table. */
export async function connectRouters(collector) {
  for (const [router, mappings] of Object.entries(TABLES)) {
    await send(collector, router, mappings, ' snapshot="complete"');
  }
}

/** What is rare: a backup, a discard, a VRF's table; and a router of whose table a part is unreadable. */
export async function tellRare(collector) {
  const ip = (prefix, table) => `<fec type="ip" prefix="${prefix}"${table ? ` table="${table}"` : ""}/>`;
  const primary = `<nhlfe label="24" next-hop="192.0.2.4"/>`;
  const backup = `<nhlfe label="12" next-hop="192.0.2.2" role="backup"/>`;
  await send(collector, "192.0.2.1", [
    mapping(ip("192.0.2.3/32"), -1, "untagged", `<operation type="push">${primary}${backup}</operation>`),
    mapping(ip("10.8.0.0/16"), -1, "untagged", `<operation type="discard"/>`),
    mapping(ip("192.168.61.0/24", 10), -1, "untagged", branches("push", [24, "192.0.2.4"])),
  ]);
  await send(collector, "192.0.2.9", [
    mapping(ip("10.1.0.0/16"), -1, "untagged", branches("push", [24, "192.0.2.4"])),
    mapping(ip("10.2.0.0/300"), -1, "untagged", branches("push", [24, "192.0.2.4"])),
  ], ' snapshot="complete"');
}

/** p2 withdraws its entry for pe3: one of the two ways is broken from now on. */
export async function breakWay(collector) {
  const none = `<operation type="none"/>`;
  await send(collector, "192.0.2.2", [mapping(loopback, 12, "platform", none)]);
}

/** A scenario file: a link that fails and comes back, then a quiet hour in which little happens. */
export function longDay(collector) {
  return scenario(
    collector,
    "long-day",
    "[[step]]\nlink-down = { count = 2, restore_after_ms = 2000 }\n" +
      "[[step]]\ntrickle = { events = 4, over_ms = 3600000 }\n",
  );
}

/** A scenario file: a link that goes and comes for a minute and more. */
export function flapping(collector) {
  const flap = "flap = { times = 40, down_ms = 700, up_ms = 900, up_ms_max = 900 }";
  return scenario(collector, "flapping", `[[step]]\n${flap}\n`);
}

async function scenario(collector, name, steps) {
  const path = join(collector.folder, `${name}.toml`);
  await writeFile(path, steps);
  return path;
}
