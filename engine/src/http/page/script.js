// The page of the collector: which part is shown, and what comes by itself. See docs/decisions/0018.

import { ask, byId, clock, json, say, seen } from './base.js';
import { kind, loadBursts, openBurst, showBurst, showBursts, words } from './bursts.js';
import { openMachine } from './machine.js';
import { refreshNow, showFaults, showNow } from './now.js';
import { loadRouters } from './routers.js';

const MOMENTS_MAX = 900;
const RECENT_US = 15 * 60e6;
/** A second is over every second; so long without one, and somebody should know. */
const SILENCE_MS = 5000;
/** One second ends where the next begins, but for what the two clocks differ. */
const HOLE_US = 500e3;
const REFRESH_MS = 5000;
const AGAIN_MS = 1000;

let part = '';
let stream = null;
/** When the last second came, by the clock of this browser. */
let heard_ms = 0;

// --- The token ------------------------------------------------------------------------------

const isOpen = () => byId('gate').hidden;

document.addEventListener('refused', () => {
  const token = sessionStorage.getItem('token');
  const worked = sessionStorage.getItem('worked');
  sessionStorage.removeItem('worked');
  stream?.abort();
  byId('gate').hidden = false;
  byId('gate-error').textContent = !token ? '' : worked ? 'The collector has another token now.' : 'This is not the token.';
  for (const section of document.querySelectorAll('main > section')) section.hidden = true;
  say('verdict', 'A token is needed', 'warn');
  byId('connection').textContent = 'not connected';
  byId('token').focus();
});

byId('gate').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', byId('token').value.trim());
  byId('token').value = '';
  byId('gate').hidden = true;
  start();
});

// --- The verdict above all parts --------------------------------------------------------------

function showVerdict() {
  const moment = seen.moments.at(-1);
  if (!moment) return say('verdict', 'The first second is not over yet');
  const last = seen.bursts.find((burst) => !burst.is_running);
  if (moment.logs_failed) say('verdict', 'The log waits for room on the disk', 'bad');
  else if (moment.sessions.blocked) say('verdict', moment.burst === null ? 'Routers wait for want of memory' : 'A burst runs, and routers wait', 'warn');
  else if (moment.burst !== null) say('verdict', 'A burst runs');
  else if (last?.verdict && moment.time_us - last.end_us < RECENT_US) say('verdict', `Calm; the last burst: ${words(last)}`, kind(last));
  else say('verdict', 'Calm', 'good');
}

/** What is shown is of then: it stays, and says so. */
function showGone() {
  const moment = seen.moments.at(-1);
  const since = moment ? ` since ${clock(moment.time_us)} UTC; what is shown is of then` : '';
  say('verdict', `The collector does not answer${since}. It is asked again every second`, 'bad');
  byId('main').classList.add('old');
}

setInterval(() => {
  if (document.hidden || !isOpen() || byId('connection').textContent !== 'live') return;
  const silence_ms = Date.now() - heard_ms;
  if (silence_ms > SILENCE_MS) say('verdict', `No second has come for ${Math.round(silence_ms / 1e3)} s: the collector, its host or the way to it is held up`, 'bad');
}, 1000);

// --- Events ---------------------------------------------------------------------------------

function take(name, value) {
  if (name === 'moment') {
    heard_ms = Date.now();
    const last_us = seen.moments.at(-1)?.time_us ?? 0;
    if (seen.moments.slice(-60).some((one) => one.time_us === value.time_us)) return;
    // A page that was held up has missed some: they are asked for, and this one is among them.
    if (last_us && value.time_us - value.span_us - last_us > HOLE_US) return void catchUp().catch(() => {});
    seen.moments.push(value);
    seen.moments.splice(0, seen.moments.length - MOMENTS_MAX);
    if (part === 'now') showNow();
    showVerdict();
  } else if (name === 'burst') {
    const place = seen.bursts.findIndex((burst) => burst.id === value.id);
    if (place < 0) seen.bursts.unshift(value);
    else seen.bursts[place] = value;
    if (part === 'bursts') showBursts();
    if (location.hash === `#bursts/${value.id}`) showBurst(value.id);
  }
}

/** All that there was before. */
async function catchUp() {
  seen.moments = (await json('api/v1/moments')).moments;
  await loadBursts();
  byId('main').classList.remove('old');
  showNow();
  showVerdict();
}

/** Server-sent events by `fetch`: an EventSource cannot send the header with the token. */
async function listen(stop) {
  const answer = await ask('api/v1/events', { signal: stop });
  // What happens from now on waits in the stream: nothing falls between it and what was before.
  await catchUp();
  if (sessionStorage.getItem('token')) sessionStorage.setItem('worked', 'yes');
  heard_ms = Date.now();
  byId('connection').textContent = 'live';
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) {
      const name = event.match(/^event: (.*)$/m)?.[1];
      const data = event.match(/^data: (.*)$/m)?.[1];
      if (name && data) take(name, JSON.parse(data));
    }
  }
}

async function live() {
  stream?.abort();
  const mine = new AbortController();
  stream = mine;
  while (!mine.signal.aborted && isOpen()) {
    try {
      await listen(mine.signal);
    } catch {
      if (mine.signal.aborted || !isOpen()) return;
      showGone();
    }
    byId('connection').textContent = 'connecting again';
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

// --- Parts ----------------------------------------------------------------------------------

const PARTS = {
  now: () => { showNow(); refreshNow(); },
  bursts: (rest) => { loadBursts().catch(() => {}); if (rest) openBurst(rest); else byId('burst').hidden = true; },
  routers: () => loadRouters(),
  'time-machine': (_, query) => openMachine(query),
};

function refresh() {
  if (document.hidden || !isOpen()) return;
  if (part === 'now') return refreshNow();
  showFaults().catch(() => {});
  if (part === 'routers') loadRouters();
}

function route() {
  if (!isOpen()) return;
  const [path, query] = location.hash.slice(1).split('?');
  const [name, rest] = path.split('/');
  const before = part;
  part = name in PARTS ? name : 'now';
  for (const known of Object.keys(PARTS)) byId(`part-${known}`).hidden = known !== part;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${part}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${byId(`part-${part}`).querySelector('h1').textContent} – stormdrain`;
  PARTS[part](rest, new URLSearchParams(query ?? ''));
  if (part !== 'now') showFaults().catch(() => {});
  if (before && before !== part) byId('main').focus({ preventScroll: true });
}

function start() {
  route();
  live();
}

window.addEventListener('hashchange', route);
document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); byId('main').focus(); });
setInterval(refresh, REFRESH_MS);
start();
