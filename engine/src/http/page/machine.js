// Time machine: the way of an LSP at an instant, by the second, and from change to change.

import { byId, draw, element, fragment, json, say, short, whole } from './base.js';

const DAY_S = 86_400;
/** The lower slider spans so much around the instant. */
const NEAR_S = 600;
/** Whoever holds a key down or drags is asked about once it rests, milliseconds. */
const REST_MS = 250;
/** So old may the end of the day be that counts as now, milliseconds. */
const FRESH_MS = 60e3;
/** Ways that are told in words above the drawing. */
const TOLD_MAX = 5;

const machine = {
  router: '', fec: '', at: 'now', with_backups: '', steps: null,
  /** What the sliders span: until when, and from when on; milliseconds. */
  day_until: 0, near_since: 0,
  /** What is drawn above them, and whose FECs are listed. */
  drawn_day: '', drawn_near: '', listed: '',
  asking: null, rest: null,
};

const isNow = () => !machine.at || machine.at === 'now';
/** The instant in milliseconds; of one that only the collector understands, such as -15m, now. */
const time = () => (Number.isNaN(Date.parse(machine.at)) ? Date.now() : Date.parse(machine.at));
const text = (ms) => new Date(ms).toISOString().replace('.000Z', 'Z');

function query() {
  const { router, fec, at, with_backups } = machine;
  return new URLSearchParams(Object.entries({ router, fec, at, with_backups }).filter(([, value]) => value));
}

/** What stands in the form. */
function readForm(names) {
  for (const name of names) machine[name] = byId(`machine-${name}`).value.trim();
  machine.with_backups = byId('machine-backups').checked ? 'true' : '';
}

const hash = () => `#time-machine${query().size ? `?${query()}` : ''}`;

/** To another router, FEC or instant, as a page that one can come back to. */
function link() {
  if (location.hash === hash()) openMachine(query());
  else location.hash = hash();
}

export async function openMachine(asked) {
  for (const name of ['router', 'fec', 'at']) machine[name] = asked.get(name) ?? '';
  machine.at ||= 'now';
  machine.with_backups = asked.get('with_backups') === 'true' ? 'true' : '';
  byId('machine-backups').checked = machine.with_backups !== '';
  clearTimeout(machine.rest);
  placeSliders();
  for (const name of ['router', 'fec', 'at']) byId(`machine-${name}`).value = machine[name];
  if (!byId('machine-routers').firstChild) listRouters().catch(() => {});
  await Promise.all([listFecs(), machine.router && machine.fec ? showPath() : showNone()]);
}

// --- The instant ----------------------------------------------------------------------------

function placeSliders() {
  const [at, now] = [time(), Date.now()];
  const isOutside = at > machine.day_until || at < machine.day_until - DAY_S * 1e3;
  if (isOutside || (isNow() && now - machine.day_until > FRESH_MS)) {
    machine.day_until = now - at < DAY_S * 1e3 ? now : at + DAY_S * 500;
  }
  const near = at - machine.near_since;
  if (near < 0 || near > NEAR_S * 1e3 || isNow()) {
    machine.near_since = Math.min(at - NEAR_S * 500, machine.day_until - NEAR_S * 1e3);
  }
  showInstant();
  drawDensity('drawn_day', 'machine-density', machine.day_until - DAY_S * 1e3, machine.day_until);
  drawDensity('drawn_near', 'machine-near-density', machine.near_since, machine.near_since + NEAR_S * 1e3);
}

function showInstant() {
  const words = isNow() || Number.isNaN(Date.parse(machine.at)) ? machine.at || 'now' : `${short(machine.at)} UTC`;
  for (const [id, since] of [['machine-slider', machine.day_until - DAY_S * 1e3], ['machine-near', machine.near_since]]) {
    byId(id).value = Math.round((time() - since) / 1e3);
    byId(id).setAttribute('aria-valuetext', words);
  }
  byId('machine-at').value = machine.at;
  byId('machine-says').textContent = words;
  byId('machine-day').textContent = `${short(text(machine.day_until))} UTC`;
  byId('machine-near-since').textContent = short(text(machine.near_since));
}

function drawDensity(kept, id, since, until) {
  const asked = `charts/density?since=${text(since)}&until=${text(until)}${machine.router ? `&router=${encodeURIComponent(machine.router)}` : ''}`;
  if (machine[kept] === asked) return;
  machine[kept] = asked;
  // Whose changes cannot be counted has no way either, and that is told there.
  draw(id, asked).then((isDrawn) => isDrawn || byId(id).replaceChildren());
}

/** To another instant of the same LSP: shown at once, asked about when the hand rests. A step back leaves now. */
function move(ms, isBack) {
  machine.at = !isBack && ms >= Date.now() - 500 ? 'now' : text(ms);
  readForm(['router', 'fec']);
  showInstant();
  clearTimeout(machine.rest);
  machine.rest = setTimeout(() => {
    // No new page for each second: who goes back wants to leave, not to step.
    history.replaceState(null, '', hash());
    placeSliders();
    if (machine.router && machine.fec) showPath();
  }, REST_MS);
}

/** Whole seconds from the instant: half a second before a change is still before it. */
function step(seconds) {
  const now = time() / 1e3;
  move((seconds < 0 ? Math.ceil(now) : Math.floor(now)) * 1e3 + seconds * 1e3, seconds < 0);
}

function press(event) {
  const forward = { ArrowRight: 1, ArrowUp: 1, PageUp: 1, ArrowLeft: -1, ArrowDown: -1, PageDown: -1 }[event.key];
  if (!forward || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (event.ctrlKey) stepToChange(forward > 0 ? 'next' : 'previous');
  else step(forward * (event.key.startsWith('Page') ? 3600 : event.shiftKey ? 60 : 1));
}

for (const [id, since] of [['machine-slider', () => machine.day_until - DAY_S * 1e3], ['machine-near', () => machine.near_since]]) {
  byId(id).addEventListener('input', () => {
    const ms = since() + Number(byId(id).value) * 1e3;
    move(Number(byId(id).value) === Number(byId(id).max) ? ms : Math.floor(ms / 1e3) * 1e3);
  });
  byId(id).addEventListener('keydown', press);
}

// --- The way --------------------------------------------------------------------------------

async function listRouters() {
  const { routers } = await json('api/v1/routers');
  byId('machine-routers').replaceChildren(...routers.slice(0, 2000).map((one) => element('option', { value: one.name || one.router })));
}

async function listFecs() {
  if (!machine.router || machine.listed === machine.router) return;
  machine.listed = machine.router;
  try {
    const { fecs } = await json(`api/v1/fecs?${new URLSearchParams({ router: machine.router, at: machine.at })}`);
    byId('machine-fecs').replaceChildren(...fecs.map((fec) => element('option', { value: fec.fec }, fec.words)));
  } catch (error) {
    machine.listed = '';
    byId('machine-error').textContent = error.message;
  }
}

function showNone() {
  machine.asking?.abort();
  byId('machine-none').hidden = false;
  byId('machine-wait').hidden = true;
  byId('machine-answer').hidden = true;
  byId('machine-error').textContent = '';
}

/** Another table of the head that has what was asked for: a way to it. */
function hint(one) {
  const asked = query();
  asked.set('fec', one.fec);
  return element('li', {}, one.fec ? element('a', { href: `#time-machine?${asked}` }, one.words) : one.words);
}

/** What of the ways is not as it should be, one line each. */
function troubles(trace) {
  const bad = trace.paths.filter((path) => path.verdict !== 'delivered');
  const lines = bad.slice(0, TOLD_MAX).map((path) => `${path.hops.map((hop) => hop.name).join(' → ')}: ${path.detail}`);
  if (bad.length > TOLD_MAX) lines.push(`and ${whole(bad.length - TOLD_MAX)} more`);
  return lines;
}

function ways(trace) {
  const verdicts = new Map();
  for (const path of trace.paths) verdicts.set(path.verdict, (verdicts.get(path.verdict) ?? 0) + 1);
  const each = [...verdicts].map(([verdict, many]) => `${whole(many)} ${verdict}`).join(', ');
  const most = trace.paths_complete ? '' : 'more than ';
  return `${most}${whole(trace.paths.length)} way${trace.paths.length === 1 ? '' : 's'}: ${each}`;
}

function showTrace(trace) {
  const kinds = { delivered: 'good', unknown: 'warn', unlabelled: 'warn', discarded: 'drop' };
  byId('machine-answer').hidden = false;
  say('machine-verdict', `${trace.start} from ${trace.steps[0]?.name ?? trace.head} as of ${trace.at}: ${trace.verdict}`, kinds[trace.verdict] ?? 'bad');
  byId('machine-ways').textContent = trace.paths.length ? ways(trace) : '';
  byId('machine-troubles').replaceChildren(...troubles(trace).map((one) => element('li', {}, one)));
  byId('machine-hints').replaceChildren(...trace.hints.map(hint));
  byId('machine-warnings').replaceChildren(...(trace.warnings ?? []).map((one) => element('li', {}, one)));
  byId('machine-drawing').replaceChildren(...fragment(trace.drawing));
  byId('machine-tree').textContent = trace.tree;
}

async function showPath() {
  machine.asking?.abort();
  const mine = new AbortController();
  machine.asking = mine;
  byId('machine-none').hidden = true;
  byId('machine-wait').hidden = false;
  byId('machine-answer').classList.add('old');
  for (const name of ['previous', 'next']) byId(`machine-${name}`).disabled = true;
  machine.steps = null;
  try {
    const trace = await json(`api/v1/trace?${query()}&draw=true`, { signal: mine.signal });
    byId('machine-error').textContent = '';
    showTrace(trace);
    byId('machine-answer').classList.remove('old');
    byId('machine-wait').hidden = true;
    machine.steps = await json(`api/v1/trace/changes?${query()}`, { signal: mine.signal });
    for (const name of ['previous', 'next']) byId(`machine-${name}`).disabled = !machine.steps[name];
  } catch (error) {
    // Another question is on its way.
    if (mine.signal.aborted) return;
    byId('machine-answer').hidden = byId('machine-answer').classList.contains('old');
    byId('machine-wait').hidden = true;
    byId('machine-error').textContent = error.message;
  }
}

function stepToChange(name) {
  if (!machine.steps?.[name]) return;
  machine.at = machine.steps[name];
  link();
}

byId('machine').addEventListener('submit', (event) => {
  event.preventDefault();
  readForm(['router', 'fec', 'at']);
  link();
});
byId('machine-backups').addEventListener('change', () => {
  readForm(['router', 'fec', 'at']);
  link();
});
byId('machine-router').addEventListener('change', () => {
  machine.router = byId('machine-router').value.trim();
  listFecs();
});
for (const name of ['previous', 'next']) byId(`machine-${name}`).addEventListener('click', () => stepToChange(name));
