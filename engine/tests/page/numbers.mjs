// What *Now* shows, beside what `/metrics` said just before and just after.
//
// In:   the numbers of the page, by what they are of; readings of /metrics, one after another.
// Out:  for each number what it may be, from /metrics alone.
// Law:  a total never falls, so two readings around a moment hold it; where they are alike, exactly.
// Not:  the page itself (browser.mjs).

import { until } from "./collector.mjs";

/** How a value is written: its words say no more and no less than it is. */
const UNITS = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, ms: 1, s: 1e3, min: 60e3, h: 3600e3 };

/** Whether words such as `1,204`, `3.4 MiB` or `12 %` are this value, rounded as they are. */
export function isWrittenAs(value, words) {
  const [, digits, unit] = /^([\d,.]+)\s*(.*)$/.exec(words) ?? [];
  if (digits === undefined) return false;
  const decimals = digits.split(".")[1]?.length ?? 0;
  const scale = UNITS[unit] ?? 1;
  const scaled = Number(value) / scale;
  return Math.abs(Number(digits.replaceAll(",", "")) - scaled) <= 0.5 * 10 ** -decimals + 1e-9;
}

/** Readings of /metrics from now on, until it is stopped. */
export class Readings {
  constructor(collector) {
    this.collector = collector;
    this.all = [];
    this.running = this.run();
  }

  async run() {
    while (!this.isStopped) {
      const before_us = (Date.now() - 1) * 1e3;
      const values = await this.collector.metrics();
      this.all.push({ before_us, after_us: (Date.now() + 1) * 1e3, values });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  stop() {
    this.isStopped = true;
    return this.running;
  }

  /** Whether there was a reading by this instant. */
  isEarlier(than_us) {
    return this.all.length > 0 && this.all[0].after_us <= than_us;
  }

  /** The last reading that was over by the one instant, and the first that began after the other. */
  around(from_us, until_us) {
    const before = this.all.findLast(({ after_us }) => after_us <= from_us);
    const after = this.all.find(({ before_us }) => before_us >= until_us);
    return before && after && [before.values, after.values];
  }

  /** The same, as soon as there is one after. */
  awaitAround(from_us, until_us) {
    return until("a reading of /metrics after the moment", () => this.around(from_us, until_us));
  }
}

/** Every number of the part: what it is of, its value, its words; and text with digits that is none. */
export function shown(page) {
  return page.evaluate(() => {
    const part = document.getElementById("part-now");
    const data = [...part.querySelectorAll("data")].map((one) => ({
      of: one.dataset.of ?? "", value: Number(one.value), words: one.textContent,
    }));
    const loose = [];
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { parentElement: parent, textContent } = walker.currentNode;
      if (/\d/.test(textContent) && !parent.closest("data, svg, th, caption")) loose.push(textContent.trim());
    }
    return { time_us: Number(part.dataset.timeUs), at_us: Date.now() * 1e3, data, loose };
  });
}

const name = (total) => `stormdrain_${total === "mappings" ? "mappings_framed" : total}_total`;

/** What each number of a moment is in a reading of /metrics; `of` = "" is all shards. */
export function expected(read, shards) {
  const sum = (metric, shard = "") => read.get(shard === "" ? metric : `${metric}{${shard}}`) ?? 0;
  const differ = (more, less, shard) => sum(`stormdrain_${more}_total`, shard) - sum(`stormdrain_${less}_total`, shard);
  const values = {
    "memory.surge_bytes": differ("surge_pushed_bytes", "surge_popped_bytes"),
    "memory.surge_max_bytes": sum("stormdrain_memory_surge_max_bytes"),
    "memory.tables_bytes": sum("stormdrain_memory_tables_bytes"),
    "memory.tables_max_bytes": sum("stormdrain_memory_tables_max_bytes"),
    "surge.share": (sum("stormdrain_surge_held_bytes") * 100) / sum("stormdrain_memory_surge_max_bytes"),
    "sessions.connections": differ("connections_accepted", "connections_closed"),
    "sessions.live": differ("sessions_begun", "sessions_ended"),
    "sessions.routers": sum("stormdrain_routers_held"),
    "sessions.entries": sum("stormdrain_table_entries"),
    "sessions.blocked": sum("stormdrain_receive_paused"),
    "sessions.snapshots_waiting": sum("stormdrain_snapshots_waiting"),
    "kernel.tcp_pages_pressure": sum("stormdrain_tcp_memory_pressure_pages"),
  };
  for (const of of TOTALS) values[`totals.${of}`] = sum(name(of));
  for (let shard = 0; shard < shards; shard += 1) {
    Object.assign(values, {
      [`shards.${shard}.surge_bytes`]: differ("surge_pushed_bytes", "surge_popped_bytes", shard),
      [`shards.${shard}.connections`]: differ("connections_accepted", "connections_closed", shard),
      [`shards.${shard}.routers`]: sum("stormdrain_routers_held", shard),
      [`shards.${shard}.entries`]: sum("stormdrain_table_entries", shard),
      [`shards.${shard}.blocked`]: sum("stormdrain_receive_paused", shard),
    });
  }
  return values;
}

/** Totals of the page, each of which is one metric. */
export const TOTALS = [
  "received_bytes", "framed_bytes", "frames", "mappings", "changes", "confirmed", "duplicates",
  "rejections", "rejected_bytes", "rejected_mappings", "rows_committed", "log_written_bytes",
  "log_syncs", "connections_accepted", "connections_closed", "sessions_begun", "sessions_ended",
  "gaps", "snapshots_completed", "receive_pauses",
];

/** How much of a total, of one shard or of all, came between two moments: at least, and at most. */
export function gained(total, shard, begin, end) {
  const metric = shard === "" ? name(total) : `${name(total)}{${shard}}`;
  const [begin_low, begin_high] = begin.map((read) => read?.get(metric) ?? 0);
  const [end_low, end_high] = end.map((read) => read.get(metric) ?? 0);
  return [Math.max(end_low - begin_high, 0), end_high - begin_low];
}

/** The line of /metrics that has a counter of the kernel, and what one of it is there; none has drops. */
export function kernelMetric(counter) {
  const [kind, ...rest] = counter.split(".");
  if (kind === "softnet") return [`stormdrain_softnet_total{processor="${rest[0]}",counter="${rest[1]}"}`, 1];
  if (kind === "interface") return [`stormdrain_interface_total{interface="${rest[0]}",counter="${rest[1]}"}`, 1];
  if (kind === "stolen_us") return ["stormdrain_stolen_seconds_total", 1e6];
  if (kind === "stall") {
    return [`stormdrain_stall_seconds_total{resource="${rest[0]}",share="${rest[1].replace(/_us$/, "")}"}`, 1e6];
  }
  return [`stormdrain_kernel_total{counter="${counter}"}`, 1];
}
