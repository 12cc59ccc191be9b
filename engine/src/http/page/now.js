// Now: the last second, and the quarter of an hour before it.

import { byId, bytes, cell, clock, counted, draw, element, fact, fill, head, json, number, rate, right, row, seen, span, tile, whole } from './base.js';

const TOTALS = {
  received_bytes: 'bytes received', framed_bytes: 'bytes of frames', frames: 'frames',
  mappings: 'mappings', changes: 'changes', confirmed: 'confirmed', duplicates: 'duplicates',
  rejections: 'rejections', rejected_bytes: 'bytes rejected', rejected_mappings: 'mappings rejected',
  rows_committed: 'rows durable', log_written_bytes: 'bytes of log', log_syncs: 'commits',
  connections_accepted: 'connections taken', connections_closed: 'connections gone',
  sessions_begun: 'sessions begun', sessions_ended: 'sessions ended', gaps: 'gaps',
  snapshots_completed: 'snapshots complete', receive_pauses: 'pauses of reading',
};

/** Of few the first decimal counts. */
const few = (value) => (value < 10 ? Number(value.toFixed(1)).toString() : whole(value));

function sums(moments) {
  const moved = new Map();
  for (const moment of moments) {
    for (const { counter, by } of moment.kernel.moved) moved.set(counter, (moved.get(counter) ?? 0) + by);
  }
  return moved;
}

export function showNow() {
  const moment = seen.moments.at(-1);
  if (!moment) {
    byId('tiles').replaceChildren(tile('waiting', '…', 'the first second is not over yet'));
    return;
  }
  byId('now-time').replaceChildren('The second that ended at ', number(moment.time_us, clock(moment.time_us), 'time_us'), ' UTC.');
  showTiles(moment);
  showShards(moment);
  showKernel(moment);
  showSessions(moment.sessions);
  const totals = Object.entries(TOTALS).map(([name, words]) => {
    const value = number(moment.totals[name], undefined, `totals.${name}`);
    value.id = `total-${name}`;
    return fact(words, value);
  });
  byId('totals').replaceChildren(...totals);
  // The last: whoever sees this time sees the numbers of this moment.
  byId('part-now').dataset.timeUs = moment.time_us;
}

function showTiles(moment) {
  const { gained, memory, peak, sessions } = moment;
  const spent = memory.surge_held_bytes / Math.max(memory.surge_max_bytes, 1);
  const each = (gained, of, words = whole) => number(Math.round(rate(moment, gained)), words(Math.round(rate(moment, gained))), of);
  const size = (value, of) => number(value, bytes(value), of);
  byId('tiles').replaceChildren(
    tile('mappings/s', each(gained.mappings, 'rate.mappings'), ['peak ', number(peak.mappings, undefined, 'peak.mappings'), ' in 10 ms']),
    tile('received/s', each(gained.received_bytes, 'rate.received_bytes', bytes), ['peak ', size(peak.received_bytes, 'peak.received_bytes'), ' in 10 ms']),
    tile('changes/s', each(gained.changes, 'rate.changes'), 'of mappings that say something new'),
    tile('surge', size(memory.surge_bytes, 'memory.surge_bytes'),
      [number(spent * 100, `${(spent * 100).toFixed(1)} %`, 'surge.share'), ' of ', size(memory.surge_max_bytes, 'memory.surge_max_bytes'), ' taken'], spent > 0.8 ? 'bad' : ''),
    tile('tables', size(memory.tables_bytes, 'memory.tables_bytes'), ['of ', size(memory.tables_max_bytes, 'memory.tables_max_bytes')]),
    tile('sessions', number(sessions.live, undefined, 'sessions.live'), [number(sessions.routers, undefined, 'sessions.routers'), ' routers known']),
    tile('blocked', number(sessions.blocked, undefined, 'sessions.blocked'),
      sessions.blocked ? ['longest ', number(sessions.blocked_ms, span(sessions.blocked_ms), 'sessions.blocked_ms')] : 'everybody is read', sessions.blocked ? 'warn' : ''),
    tile('gaps', number(moment.totals.gaps, undefined, 'totals.gaps'), 'since the start'),
  );
}

function showSessions(sessions) {
  const fact_of = (words, name) => fact(words, number(sessions[name], undefined, `sessions.${name}`));
  const eta = number(sessions.snapshots_eta_ms, span(sessions.snapshots_eta_ms), 'sessions.snapshots_eta_ms');
  byId('sessions').replaceChildren(
    fact_of('connections open', 'connections'), fact_of('sessions live', 'live'),
    fact_of('routers whose table is held', 'routers'), fact_of('entries of their tables', 'entries'),
    fact_of('not read for want of memory', 'blocked'),
    fact_of('snapshots that wait their turn', 'snapshots_waiting'),
    fact('until these are read', sessions.snapshots_waiting ? eta : '–'),
  );
}

function showShards(moment) {
  const minute = seen.moments.slice(-60);
  const received = moment.shards.map((_, shard) => minute.reduce((sum, one) => sum + (one.shards[shard]?.received_bytes ?? 0), 0));
  const all = received.reduce((sum, one) => sum + one, 0);
  fill('shards', moment.shards.map((shard, place) => {
    const share = all ? received[place] / all : 0;
    const of = (name) => `shards.${place}.${name}`;
    const meter = element('meter', { min: 0, max: 1, value: share, 'aria-label': `share of shard ${place}` });
    const each = (gained) => Math.round(rate(moment, gained));
    return row(head(place), cell([meter, ' ', number(share * 100, `${(share * 100).toFixed(0)} %`, of('share'))]),
      right(each(shard.mappings), undefined, of('mappings')), right(each(shard.received_bytes), bytes(each(shard.received_bytes)), of('received_bytes')),
      right(shard.surge_bytes, bytes(shard.surge_bytes), of('surge_bytes')), right(shard.connections, undefined, of('connections')),
      right(shard.routers, undefined, of('routers')), right(shard.entries, undefined, of('entries')), right(shard.blocked, undefined, of('blocked')));
  }));
}

function showKernel(moment) {
  const [last, all] = [sums([moment]), sums(seen.moments)];
  const { tcp_pages: pages, tcp_pages_pressure: pressure, unread } = moment.kernel;
  const words = [all.size ? 'Counters that moved.' : unread.length ? '' : 'No counter that matters has moved in the last quarter of an hour.'];
  if (unread.length) words.push(element('strong', { class: 'warn' }, `${all.size ? ' Whether others moved' : 'Whether counters moved'} cannot be told: ${unread.join(', ')} cannot be read.`));
  if (pages !== null) {
    words.push(' TCP holds ', number(pages, undefined, 'kernel.tcp_pages'), ' pages');
    if (pressure) words.push(', and the kernel squeezes from ', number(pressure, undefined, 'kernel.tcp_pages_pressure'), ' on');
    words.push('.');
  }
  byId('kernel-says').replaceChildren(...words);
  byId('kernel-table').hidden = all.size === 0;
  fill('kernel', [...all].sort().map(([name, by]) => {
    const [[words, sum], [, recent]] = [counted(name, by, `kernel.sum.${name}`), counted(name, last.get(name) ?? 0, `kernel.last.${name}`)];
    return row(head(words), cell(recent, 'number'), cell(sum, 'number'));
  }));
}

async function showPlan() {
  try {
    const plan = await json('api/v1/plan');
    byId('plan-says').textContent = plan.summary;
    fill('plan', plan.needs.map((need) => {
      const of = (name) => `plan.${need.name}.${name}`;
      const amount = (value, name) => right(value, `${few(value)} ${need.unit}`, of(name));
      const load = need.load === null ? '–'
        : [element('meter', { min: 0, max: 1, high: 0.8, optimum: 0, value: Math.min(need.load, 1), 'aria-label': `load of ${need.name}` }),
          ' ', number(need.load * 100, `${whole(need.load * 100)} %`, of('load'))];
      return row(head(need.name, need.formula), amount(need.value, 'value'),
        need.has === null ? cell('–', 'number') : amount(need.has, 'has'), cell(load, need.load > 1 ? 'bad' : ''));
    }));
  } catch (error) {
    byId('plan-says').textContent = error.message;
  }
}

/** What is wrong now, and above all parts what is missing of the past. */
export async function showFaults() {
  const now = await json('api/v1/now');
  byId('version').textContent = now.version;
  byId('driver').textContent = now.driver ? ` Sockets are read by ${now.driver}: ${now.driver_reason}.` : '';
  const lacking = now.lacking ?? '';
  byId('lacking').hidden = !lacking;
  // Whoever listens to the page hears it only when it changes.
  if (byId('lacking').textContent !== lacking) byId('lacking').textContent = lacking;
  byId('faults').replaceChildren(...now.faults.map((fault) => element('p', { class: 'verdict bad', role: 'alert' }, fault)));
}

/** What takes more than the news of a second has. */
export function refreshNow() {
  showFaults().catch(() => {});
  showPlan();
  for (const what of ['mappings', 'bytes', 'surge']) draw(`chart-${what}`, `charts/now/${what}`);
}
