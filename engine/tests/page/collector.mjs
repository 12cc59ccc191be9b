// A collector as an operator runs it, a network that speaks to it, and the command line's answers.
//
// In:   the two programs, by STORMDRAIN and STORMGEN in the environment.
// Out:  where the collector listens; what the programs say.
// Law:  nothing is waited for by time: a test awaits what it expects, with a deadline.
// Not:  the page (page.mjs).

import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Longest wait for anything that is sure to come, milliseconds. */
export const PATIENCE_MS = 60_000;

function program(name) {
  const path = process.env[name];
  if (!path) throw new Error(`${name} is not set: scripts/page-tests.sh sets it`);
  return path;
}

/** Awaits the first answer of `look` that is not undefined, false or null. */
export async function until(what, look, patience_ms = PATIENCE_MS) {
  const deadline = Date.now() + patience_ms;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false && seen !== null) return seen;
    if (Date.now() > deadline) throw new Error(`did not come within ${patience_ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A running collector with a data folder of its own. */
export class Collector {
  /** Starts one; `settings` is appended to its settings file, `http` is where its page is. */
  static async start(settings = "", { http = "127.0.0.1:0" } = {}) {
    const folder = await mkdtemp(join(tmpdir(), "stormdrain-page-"));
    const collector = new Collector(folder);
    const head =
      `data = "${collector.data}"\nlisten = "127.0.0.1:0"\nhttp = "${http}"\n` +
      `log_format = "json"\nsessions_per_minute_max = 100000\n`;
    await writeFile(collector.config, head + settings);
    await collector.spawn();
    return collector;
  }

  constructor(folder) {
    this.folder = folder;
    this.data = join(folder, "data");
    this.config = join(folder, "settings.toml");
  }

  /** Runs the program, for the first time or again. */
  async spawn() {
    this.child = spawn(program("STORMDRAIN"), ["run", "--config", this.config], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, RUST_LOG: "info" },
    });
    this.ended = new Promise((resolve) => this.child.once("exit", resolve));
    const lines = createInterface({ input: this.child.stderr });
    const said = [];
    const started = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        said.push(line);
        const fields = fieldsOf(line);
        if (fields?.message === "collecting") resolve(fields);
      });
      lines.on("close", () => reject(new Error(`no collector:\n${said.join("\n")}`)));
    });
    const fields = await started;
    this.listen = fields.listen;
    this.url = `http://${fields.http}`;
  }

  /** The answer of a question of the command line; `code` is its exit code. */
  async ask(command, ...options) {
    const words = [command, "--data", this.data, ...options];
    try {
      return { code: 0, ...(await run(program("STORMDRAIN"), words, { maxBuffer: 1 << 26 })) };
    } catch (error) {
      if (typeof error.code !== "number") throw error;
      return { code: error.code, stdout: error.stdout, stderr: error.stderr };
    }
  }

  /** A document of the interface. */
  async api(path) {
    const answer = await fetch(`${this.url}/api/v1/${path}`);
    if (!answer.ok) throw new Error(`/api/v1/${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /**
   * Every metric, summed up over its labels, by name; each line by its name and labels; and as
   * `name{0}` the sum of a shard.
   */
  async metrics() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const sums = new Map();
    const add = (name, value) => sums.set(name, (sums.get(name) ?? 0) + value);
    for (const line of text.split("\n")) {
      const [, name, labels, value] = /^([a-z_]+)(\{.*\})? (\S+)$/.exec(line) ?? [];
      if (name === undefined) continue;
      add(name, Number(value));
      if (labels) add(name + labels, Number(value));
      const shard = /[{,]shard="(\d+)"/.exec(labels ?? "")?.[1];
      if (shard !== undefined) add(`${name}{${shard}}`, Number(value));
    }
    return sums;
  }

  /** A network that speaks to it; `said` is its report once it has ended. */
  storm(...options) {
    const words = ["run", "--target", this.listen, "--quiet", ...options];
    const child = spawn(program("STORMGEN"), words, { stdio: ["ignore", "pipe", "pipe"] });
    const storm = { child, text: "" };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (part) => (storm.text += part));
    }
    storm.ended = new Promise((resolve) => child.once("exit", resolve));
    this.storms = [...(this.storms ?? []), storm];
    return storm;
  }

  /** The program ends without a word. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** Ends the networks and the collector, and removes its folder. */
  async stop() {
    for (const storm of this.storms ?? []) {
      storm.child.kill();
      await storm.ended;
    }
    this.child.kill("SIGTERM");
    await this.ended;
    await rm(this.folder, { recursive: true, force: true });
  }
}

function fieldsOf(line) {
  try {
    return JSON.parse(line).fields;
  } catch {
    return undefined; // A panic's message, say: it is shown when the collector does not come.
  }
}
