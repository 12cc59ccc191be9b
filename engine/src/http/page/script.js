// The page of the collector: asks /api/v1/ and shows what it says. No library; see docs/decisions/.

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const MOMENTS_MAX = 900;
const MINUTE_US = 60e6;
const DAY_MINUTES = 1440;

const seen = { moments: [], bursts: [], routers: [], shown: 200, sort: 'router', down: false };
let part = '';
let stream = null;

// --- Asking ---------------------------------------------------------------------------------

function headers() {
  const token = sessionStorage.getItem('token');
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { headers: headers(), ...options });
  if (answer.status === 401) {
    gate(sessionStorage.getItem('token') ? 'This is not the token.' : '');
  }
  if (!answer.ok) {
    const fault = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    throw new Error(fault.error);
  }
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();

function gate(error) {
  byId('gate').hidden = false;
  byId('gate-error').textContent = error;
  for (const section of document.querySelectorAll('main > section')) section.hidden = true;
  say('verdict', 'A token is needed', 'warn');
  byId('token').focus();
}

byId('gate').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', byId('token').value.trim());
  byId('gate').hidden = true;
  start();
});

// --- Words ----------------------------------------------------------------------------------

function bytes(value) {
  for (const [least, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
    if (value >= least) return `${(value / least).toFixed(1)} ${unit}`;
  }
  return `${count.format(value)} B`;
}

function span(ms) {
  if (ms === null || ms === undefined) return '–';
  const size = Math.abs(ms);
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 120e3) return `${(ms / 1e3).toFixed(1)} s`;
  if (size < 7200e3) return `${Math.round(ms / 60e3)} min`;
  return `${(ms / 3600e3).toFixed(1)} h`;
}

/** A counter by its name and how much it moved: names of those that count time end in `_us`. */
const counted = (counter, by) => (counter.endsWith('_us') ? [counter.slice(0, -3), number(by, span(by / 1e3))] : [counter, number(by)]);
const instant = (us) => new Date(us / 1e3).toISOString().replace('T', ' ').replace(/\.?0*Z$/, '');
const short = (text) => (text ? text.replace('T', ' ').replace(/\.\d+Z$/, '') : '–');
const rate = (moment, gained) => (gained * 1e6) / Math.max(moment.span_us, 1);

// --- Elements -------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

const number = (value, text) => element('data', { value }, text ?? count.format(value));
const cell = (content, kind) => element('td', { class: kind }, content);
const right = (value, text) => cell(number(value, text), 'number');
const row = (...cells) => element('tr', {}, ...cells);
const fact = (name, value) => row(element('th', { scope: 'row' }, name), cell(value, 'number'));

function tile(name, value, note, kind) {
  const dd = element('dd', { class: kind }, value);
  if (note) dd.append(element('small', {}, note));
  return element('div', {}, element('dt', {}, name), dd);
}

function say(id, text, kind) {
  const place = byId(id);
  // Whoever listens to the page hears it only when it changes.
  if (place.textContent !== text) place.textContent = text;
  place.className = `verdict ${kind ?? ''}`;
}

async function draw(id, path) {
  const place = byId(id);
  const width = Math.round(place.clientWidth) || 720;
  try {
    const text = await (await ask(`${path}${path.includes('?') ? '&' : '?'}width=${width}`)).text();
    const drawn = new DOMParser().parseFromString(text, 'text/html');
    place.replaceChildren(...drawn.body.childNodes);
  } catch (error) {
    place.replaceChildren(element('p', { class: 'none' }, error.message));
  }
}

// --- Now ------------------------------------------------------------------------------------

const TOTALS = {
  received_bytes: 'bytes received', framed_bytes: 'bytes of frames', frames: 'frames',
  mappings: 'mappings', changes: 'changes', confirmed: 'confirmed', duplicates: 'duplicates',
  rejections: 'rejections', rejected_bytes: 'bytes rejected', rejected_mappings: 'mappings rejected',
  rows_committed: 'rows durable', log_written_bytes: 'bytes of log', log_syncs: 'commits',
  connections_accepted: 'connections taken', connections_closed: 'connections gone',
  sessions_begun: 'sessions begun', sessions_ended: 'sessions ended', gaps: 'gaps',
  snapshots_completed: 'snapshots complete', receive_pauses: 'pauses of reading',
};

function sums(moments) {
  const moved = new Map();
  for (const moment of moments) {
    for (const { counter, by } of moment.kernel.moved) moved.set(counter, (moved.get(counter) ?? 0) + by);
  }
  return moved;
}

function showNow() {
  const moment = seen.moments.at(-1);
  if (!moment) {
    byId('tiles').replaceChildren(tile('waiting', '…', 'the first second is not over yet'));
    return;
  }
  const { gained, memory, sessions } = moment;
  const spent = memory.surge_held_bytes / Math.max(memory.surge_max_bytes, 1);
  byId('tiles').replaceChildren(
    tile('mappings/s', number(Math.round(rate(moment, gained.mappings))), `peak ${count.format(moment.peak.mappings)} in 10 ms`),
    tile('received/s', number(Math.round(rate(moment, gained.received_bytes)), bytes(rate(moment, gained.received_bytes)))),
    tile('changes/s', number(Math.round(rate(moment, gained.changes)))),
    tile('surge', number(memory.surge_bytes, bytes(memory.surge_bytes)), `${(spent * 100).toFixed(1)} % of ${bytes(memory.surge_max_bytes)}`, spent > 0.8 ? 'bad' : ''),
    tile('tables', number(memory.tables_bytes, bytes(memory.tables_bytes)), `of ${bytes(memory.tables_max_bytes)}`),
    tile('sessions', number(sessions.live), `${count.format(sessions.routers)} routers known`),
    tile('blocked', number(sessions.blocked), sessions.blocked ? `longest ${span(sessions.blocked_ms)}` : 'everybody is read', sessions.blocked ? 'warn' : ''),
    tile('gaps', number(moment.totals.gaps), 'since the start'),
  );
  showShards(moment);
  showKernel(moment);
  byId('sessions').replaceChildren(
    fact('connections open', number(sessions.connections)), fact('sessions live', number(sessions.live)),
    fact('routers whose table is held', number(sessions.routers)), fact('entries of their tables', number(sessions.entries)),
    fact('not read for want of memory', number(sessions.blocked)),
    fact('snapshots that wait their turn', number(sessions.snapshots_waiting)),
    fact('until these are read', sessions.snapshots_waiting ? span(sessions.snapshots_eta_ms) : '–'),
  );
  const totals = Object.entries(TOTALS).map(([name, words]) => {
    const value = number(moment.totals[name]);
    value.id = `total-${name}`;
    return fact(words, value);
  });
  byId('totals').replaceChildren(...totals);
  byId('totals').dataset.timeUs = moment.time_us;
}

function showShards(moment) {
  const minute = seen.moments.slice(-60);
  const received = moment.shards.map((_, shard) => minute.reduce((sum, one) => sum + (one.shards[shard]?.received_bytes ?? 0), 0));
  const all = received.reduce((sum, one) => sum + one, 0);
  byId('shards').replaceChildren(...moment.shards.map((shard, place) => {
    const share = all ? received[place] / all : 0;
    const meter = element('meter', { min: 0, max: 1, value: share, 'aria-label': `share of shard ${place}` });
    return row(element('th', { scope: 'row' }, place), cell(element('span', {}, meter, ` ${(share * 100).toFixed(0)} %`)),
      right(Math.round(rate(moment, shard.mappings))), right(shard.received_bytes, bytes(rate(moment, shard.received_bytes))),
      right(shard.surge_bytes, bytes(shard.surge_bytes)), right(shard.connections), right(shard.routers),
      right(shard.entries), right(shard.blocked));
  }));
}

function showKernel(moment) {
  const [last, all] = [sums([moment]), sums(seen.moments)];
  const { tcp_pages: pages, tcp_pages_pressure: pressure } = moment.kernel;
  const queues = pages === null ? '' : ` TCP holds ${count.format(pages)} pages${pressure ? ` of ${count.format(pressure)} before the kernel squeezes` : ''}.`;
  byId('kernel-says').textContent = (all.size ? 'Counters that moved.' : 'No counter that matters has moved in the last quarter of an hour.') + queues;
  byId('kernel').replaceChildren(...[...all].sort().map(([name, by]) => {
    const [[words, sum], [, recent]] = [counted(name, by), counted(name, last.get(name) ?? 0)];
    return row(element('th', { scope: 'row' }, words), cell(recent, 'number'), cell(sum, 'number'));
  }));
}

async function showPlan() {
  try {
    const plan = await json('api/v1/plan');
    byId('plan-says').textContent = plan.summary;
    byId('plan').replaceChildren(...plan.needs.map((need) => {
      const load = need.load === null ? '–' : element('span', {}, element('meter', { min: 0, max: 1, high: 0.8, optimum: 0, value: Math.min(need.load, 1), 'aria-label': `load of ${need.name}` }), ` ${(need.load * 100).toFixed(0)} %`);
      return row(element('th', { scope: 'row', title: need.formula }, need.name), right(need.value, `${count.format(need.value)} ${need.unit}`),
        need.has === null ? cell('–', 'number') : right(need.has, `${count.format(need.has)} ${need.unit}`), cell(load, need.load > 1 ? 'bad' : ''));
    }));
  } catch (error) {
    byId('plan-says').textContent = error.message;
  }
}

async function showFaults() {
  const now = await json('api/v1/now');
  byId('version').textContent = now.version;
  byId('faults').replaceChildren(...now.faults.map((fault) => element('p', { class: 'verdict bad', role: 'alert' }, fault)));
  return now;
}

function showVerdict() {
  const moment = seen.moments.at(-1);
  if (!moment) return;
  const last = seen.bursts.find((burst) => !burst.is_running);
  if (moment.logs_failed) say('verdict', 'The log waits for room on the disk', 'bad');
  else if (moment.burst !== null) say('verdict', `A burst runs${moment.sessions.blocked ? ', and routers wait' : ''}`, moment.sessions.blocked ? 'warn' : '');
  else if (last?.verdict && moment.time_us - last.end_us < 15 * MINUTE_US) say('verdict', `Calm; the last burst: ${words(last)}`, kind(last));
  else say('verdict', 'Calm', 'good');
}

// --- Bursts ---------------------------------------------------------------------------------

const words = (burst) => (burst.verdict ? `${burst.verdict.outcome}${burst.verdict.layer ? ` (${burst.verdict.layer})` : ''}` : burst.is_running ? 'runs' : 'no verdict');
const kind = (burst) => ({ clean: 'good', squeezed: 'warn', lost: 'bad' })[burst.verdict?.outcome] ?? '';

async function loadBursts() {
  seen.bursts = (await json('api/v1/bursts')).bursts;
  showBursts();
}

function showBursts() {
  byId('bursts-none').hidden = seen.bursts.length > 0;
  byId('bursts-table').hidden = seen.bursts.length === 0;
  byId('bursts').replaceChildren(...seen.bursts.map((burst) => row(
    element('th', { scope: 'row' }, element('a', { href: `#bursts/${burst.id}` }, instant(burst.start_us))),
    cell(words(burst), kind(burst)), right(burst.end_us - burst.start_us, span((burst.end_us - burst.start_us) / 1e3)),
    right(burst.mappings), right(burst.peak_mappings), right(burst.routers),
    right(burst.surge_high_bytes, bytes(burst.surge_high_bytes)), right(burst.blocked_longest_ms, span(burst.blocked_longest_ms)),
  )));
}

async function openBurst(id) {
  byId('burst').hidden = false;
  await showBurst(id);
  byId('burst').focus({ preventScroll: true });
  byId('burst').scrollIntoView({ block: 'start' });
}

async function showBurst(id) {
  let burst;
  try {
    burst = await json(`api/v1/bursts/${encodeURIComponent(id)}`);
  } catch (error) {
    byId('burst-title').textContent = 'No such burst';
    return say('burst-verdict', error.message, 'bad');
  }
  byId('burst-title').textContent = `Burst of ${instant(burst.start_us)}`;
  say('burst-verdict', words(burst), kind(burst));
  byId('burst-reasons').replaceChildren(...(burst.verdict?.reasons ?? []).map((reason) => element('li', {}, reason)));
  byId('burst-facts').replaceChildren(
    tile('lasted', span((burst.end_us - burst.start_us) / 1e3)), tile('mappings', number(burst.mappings)),
    tile('received', bytes(burst.received_bytes)), tile('peak in 10 ms', number(burst.peak_mappings)),
    tile('routers', number(burst.routers)), tile('surge high-water', bytes(burst.surge_high_bytes)),
    tile('longest blocked', span(burst.blocked_longest_ms)), tile('gaps', number(burst.gaps)),
  );
  byId('burst-moved').replaceChildren(...(burst.moved.length ? burst.moved.map(({ counter, by }) => {
    const [words, value] = counted(counter, by);
    return row(element('th', { scope: 'row' }, words), cell(value, 'number'));
  })
    : [row(element('td', { colspan: 2, class: 'good' }, 'nothing moved'))]));
  for (const what of ['mappings', 'bytes', 'kernel']) draw(`burst-${what}`, `charts/bursts/${burst.id}/${what}`);
}

// --- Routers --------------------------------------------------------------------------------

const COLUMNS = [
  ['router', 'router', (one) => one.router, (one) => element('a', { href: `#time-machine?router=${encodeURIComponent(one.router)}` }, one.name || one.router)],
  ['status', 'state', (one) => one.status], ['since', 'since', (one) => one.since ?? '', (one) => short(one.since)],
  ['generation', 'generation', (one) => one.generation], ['entries', 'entries', (one) => one.entries],
  ['answer', 'gap', (one) => one.unknown_since ?? '', (one) => (one.answer === 'known' ? '–' : `${one.cause}, since ${short(one.unknown_since)}`)],
  ['blocked', 'longest blocked', (one) => one.live?.blocked_longest_ms ?? -1, (one) => span(one.live?.blocked_longest_ms)],
  ['waiting', 'waiting', (one) => one.live?.waiting_bytes ?? -1, (one) => (one.live ? bytes(one.live.waiting_bytes) : '–')],
  ['queue', 'kernel queue', (one) => one.tcp?.queue_bytes ?? -1, (one) => (one.tcp ? bytes(one.tcp.queue_bytes) : '–')],
  ['rtt', 'round trip', (one) => one.tcp?.rtt_us ?? -1, (one) => (one.tcp?.rtt_us ? span(one.tcp.rtt_us / 1e3) : '–')],
  ['drops', 'drops', (one) => one.tcp?.drops ?? -1, (one) => (one.tcp ? count.format(one.tcp.drops) : '–')],
  ['deferral', 'deferral', (one) => one.live?.deferral_longest_ms ?? -Infinity, (one) => span(one.live?.deferral_longest_ms)],
  ['rejected', 'rejected', (one) => one.live?.rejected ?? -1, (one) => (one.live ? count.format(one.live.rejected) : '–')],
];

async function loadRouters() {
  seen.routers = (await json('api/v1/routers')).routers;
  showRouters();
}

function showRouters() {
  const head = byId('routers-head');
  if (!head.firstChild) {
    head.append(row(...COLUMNS.map(([name, title]) => {
      const button = element('button', { 'data-sort': name }, title);
      button.addEventListener('click', () => {
        seen.down = seen.sort === name ? !seen.down : false;
        seen.sort = name;
        showRouters();
      });
      return element('th', { scope: 'col', 'data-column': name }, button);
    })));
  }
  for (const th of head.querySelectorAll('th')) {
    if (th.dataset.column === seen.sort) th.setAttribute('aria-sort', seen.down ? 'descending' : 'ascending');
    else th.removeAttribute('aria-sort');
  }
  const wanted = byId('routers-filter').value.trim().toLowerCase();
  const meant = seen.routers.filter((one) => !wanted || [one.router, one.name, one.status, one.cause].some((text) => text?.toLowerCase().includes(wanted)));
  const key = COLUMNS.find(([name]) => name === seen.sort)[2];
  const order = (one, other) => (typeof key(one) === 'number' ? key(one) - key(other) : key(one).localeCompare(key(other), 'en', { numeric: true }));
  meant.sort((one, other) => (seen.down ? -1 : 1) * order(one, other));
  byId('routers').replaceChildren(...meant.slice(0, seen.shown).map((one) => row(...COLUMNS.map(([name, , , content, value]) =>
    (name === 'router' ? element('th', { scope: 'row' }, content(one)) : cell((content ?? COLUMNS.find(([other]) => other === name)[2])(one), name === 'answer' && one.answer !== 'known' ? 'bad' : value))))));
  byId('routers-count').textContent = `${count.format(meant.length)} of ${count.format(seen.routers.length)}`;
  byId('routers-none').hidden = seen.routers.length > 0;
  byId('routers-more').hidden = meant.length <= seen.shown;
}

byId('routers-filter').addEventListener('input', showRouters);
byId('routers-more').addEventListener('click', () => { seen.shown += 500; showRouters(); });

// --- Time machine ---------------------------------------------------------------------------

const machine = { router: '', fec: '', at: '', end: null, steps: null };

/** The last instant of the day that the slider spans: that of the instant, or now. */
function dayEnd() {
  const at = Date.parse(machine.at);
  const now = Date.now();
  if (Number.isNaN(at)) return now;
  if (now - at < DAY_MINUTES * 60e3) return now;
  return at + DAY_MINUTES * 30e3;
}

function linkMachine() {
  const query = new URLSearchParams(Object.entries({ router: machine.router, fec: machine.fec, at: machine.at }).filter(([, value]) => value));
  const hash = `#time-machine${query.size ? `?${query}` : ''}`;
  if (location.hash === hash) openMachine(query);
  else location.hash = hash;
}

async function openMachine(query) {
  for (const name of ['router', 'fec', 'at']) {
    machine[name] = query.get(name) ?? '';
    byId(`machine-${name}`).value = machine[name];
  }
  if (!machine.at || machine.at === 'now' || machine.at.startsWith('-')) machine.at = machine.at || 'now';
  placeSlider();
  if (!byId('machine-routers').firstChild) listRouters().catch(() => {});
  if (machine.router) listFecs();
  if (machine.router && machine.fec) await showPath();
}

function placeSlider() {
  machine.end = dayEnd();
  const at = Date.parse(machine.at);
  const minute = Number.isNaN(at) ? DAY_MINUTES - 1 : Math.round((at - machine.end) / 60e3) + DAY_MINUTES - 1;
  const slider = byId('machine-slider');
  slider.value = minute;
  const until = new Date(machine.end).toISOString();
  byId('machine-day').textContent = short(until);
  slider.setAttribute('aria-valuetext', Number.isNaN(at) ? machine.at || 'now' : short(new Date(at).toISOString()));
  byId('machine-says').textContent = machine.at || 'now';
  const since = new Date(machine.end - DAY_MINUTES * 60e3).toISOString();
  draw('machine-density', `charts/density?since=${since}&until=${until}${machine.router ? `&router=${encodeURIComponent(machine.router)}` : ''}`);
}

async function listRouters() {
  const { routers } = await json('api/v1/routers');
  byId('machine-routers').replaceChildren(...routers.slice(0, 2000).map((one) => element('option', { value: one.name || one.router })));
}

async function listFecs() {
  try {
    const query = new URLSearchParams({ router: machine.router, at: machine.at || 'now' });
    const { fecs } = await json(`api/v1/fecs?${query}`);
    byId('machine-fecs').replaceChildren(...fecs.map((fec) => element('option', { value: fec.fec }, fec.words)));
  } catch (error) {
    byId('machine-error').textContent = error.message;
  }
}

async function showPath() {
  byId('machine-none').hidden = true;
  byId('machine-error').textContent = '';
  const query = new URLSearchParams({ router: machine.router, fec: machine.fec, at: machine.at || 'now' });
  try {
    const trace = await json(`api/v1/trace?${query}&draw=true`);
    const kinds = { delivered: 'good', unknown: 'warn', unlabelled: 'warn' };
    byId('machine-answer').hidden = false;
    say('machine-verdict', `${trace.start} from ${trace.steps[0]?.name ?? trace.head} as of ${trace.at}: ${trace.verdict}`, kinds[trace.verdict] ?? 'bad');
    byId('machine-warnings').replaceChildren(...(trace.warnings ?? []).map((one) => element('li', {}, one)));
    byId('machine-drawing').replaceChildren(...new DOMParser().parseFromString(trace.drawing, 'text/html').body.childNodes);
    byId('machine-tree').textContent = trace.tree;
  } catch (error) {
    byId('machine-answer').hidden = true;
    byId('machine-error').textContent = error.message;
    return;
  }
  for (const name of ['previous', 'next']) byId(`machine-${name}`).disabled = true;
  try {
    machine.steps = await json(`api/v1/trace/changes?${query}`);
    for (const name of ['previous', 'next']) byId(`machine-${name}`).disabled = !machine.steps[name];
    byId('machine-says').textContent = machine.at || 'now';
  } catch (error) {
    byId('machine-error').textContent = error.message;
  }
}

byId('machine').addEventListener('submit', (event) => {
  event.preventDefault();
  for (const name of ['router', 'fec', 'at']) machine[name] = byId(`machine-${name}`).value.trim();
  linkMachine();
});
byId('machine-router').addEventListener('change', () => {
  machine.router = byId('machine-router').value.trim();
  listFecs();
});
byId('machine-slider').addEventListener('input', () => {
  const minutes = Number(byId('machine-slider').value) - (DAY_MINUTES - 1);
  byId('machine-says').textContent = minutes ? short(new Date(machine.end + minutes * 60e3).toISOString()) : 'now';
});
byId('machine-slider').addEventListener('change', () => {
  const minutes = Number(byId('machine-slider').value) - (DAY_MINUTES - 1);
  for (const name of ['router', 'fec']) machine[name] = byId(`machine-${name}`).value.trim();
  machine.at = minutes ? new Date(machine.end + minutes * 60e3).toISOString() : 'now';
  linkMachine();
});
for (const name of ['previous', 'next']) {
  byId(`machine-${name}`).addEventListener('click', () => {
    if (!machine.steps?.[name]) return;
    machine.at = machine.steps[name];
    linkMachine();
  });
}

// --- Events ---------------------------------------------------------------------------------

function take(name, value) {
  if (name === 'moment') {
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

/** Server-sent events by `fetch`: an EventSource cannot send the header with the token. */
async function listen(stop) {
  const answer = await ask('api/v1/events', { signal: stop });
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
  while (!mine.signal.aborted && byId('gate').hidden) {
    try {
      const { moments } = await json('api/v1/moments');
      seen.moments = moments;
      await loadBursts();
      showNow();
      showVerdict();
      await listen(mine.signal);
    } catch (error) {
      if (mine.signal.aborted || !byId('gate').hidden) return;
      say('verdict', 'The collector does not answer; asking again', 'bad');
    }
    byId('connection').textContent = 'connecting again';
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// --- Parts ----------------------------------------------------------------------------------

const PARTS = {
  now: () => { showNow(); refresh(); },
  bursts: (rest) => { loadBursts().catch(() => {}); if (rest) openBurst(rest); else byId('burst').hidden = true; },
  routers: () => loadRouters().catch(() => {}),
  'time-machine': (_, query) => openMachine(query),
};

function refresh() {
  if (document.hidden || !byId('gate').hidden) return;
  if (part === 'now') {
    showFaults().catch(() => {});
    showPlan();
    for (const what of ['mappings', 'bytes', 'surge']) draw(`chart-${what}`, `charts/now/${what}`);
  } else if (part === 'routers') {
    loadRouters().catch(() => {});
  }
}

function route() {
  if (!byId('gate').hidden) return;
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
  if (before && before !== part) byId('main').focus({ preventScroll: true });
}

function start() {
  route();
  live();
}

window.addEventListener('hashchange', route);
document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); byId('main').focus(); });
setInterval(refresh, 5000);
start();
