// Routers: everybody who was ever heard, in the order that is asked for.

import { byId, bytes, cell, element, fill, head, json, row, seen, short, span, whole } from './base.js';

/** Each column: name, title, what it is sorted by, what is shown, what it means. */
const COLUMNS = [
  ['router', 'router', (one) => one.router, (one) => element('a', { href: `#time-machine?router=${encodeURIComponent(one.router)}` }, one.name || one.router), 'Name or router id; leads to its LSPs in the time machine.'],
  ['status', 'state', (one) => one.status, undefined, 'Whether it is connected now.'],
  ['since', 'since (UTC)', (one) => one.since ?? '', (one) => short(one.since), 'When its last session began or ended.'],
  ['generation', 'generation', (one) => one.generation, undefined, 'How many sessions it has had.'],
  ['entries', 'entries', (one) => one.entries, (one) => whole(one.entries), 'Mappings in its table.'],
  ['answer', 'answer', (one) => one.unknown_since ?? '', answer, 'Whether the collector can vouch for its table; if not for all of it: since when, and why. In part: entries that are not listed, or some that are, may be otherwise.'],
  ['clock', 'clock', (one) => one.clock_skew_us ?? -Infinity, clock, 'How far its clock is ahead of this host, at least; behind, at most. More than 60 s ahead is not believed.'],
  ['blocked', 'longest blocked', (one) => one.live?.blocked_longest_ms ?? -1, (one) => span(one.live?.blocked_longest_ms), 'The longest time for which it was not read, for want of memory, in this session.'],
  ['waiting', 'waiting', (one) => one.live?.waiting_bytes ?? -1, (one) => (one.live ? bytes(one.live.waiting_bytes) : '–'), 'Received bytes that are not digested yet.'],
  ['queue', 'kernel queue', (one) => one.tcp?.queue_bytes ?? -1, (one) => (one.tcp ? bytes(one.tcp.queue_bytes) : '–'), 'Bytes that the kernel holds for us in its receive queue.'],
  ['rtt', 'round trip', (one) => one.tcp?.rtt_us ?? -1, (one) => (one.tcp?.rtt_us ? trip(one.tcp.rtt_us) : '–'), 'Round-trip time, as TCP estimates it.'],
  ['drops', 'drops', (one) => one.tcp?.drops ?? -1, (one) => (one.tcp ? whole(one.tcp.drops) : '–'), 'Packets that the kernel dropped at its socket: TCP sends them again.'],
  ['deferral', 'deferral', (one) => one.live?.deferral_longest_ms ?? -Infinity, (one) => span(one.live?.deferral_longest_ms), 'The longest time from a change on the router until it was read here, by both clocks.'],
  ['rejected', 'rejected', (one) => one.live?.rejected ?? -1, (one) => (one.live ? whole(one.live.rejected) : '–'), 'Frames and mappings that were refused in this session.'],
];
const KINDS = { answer: (one) => ({ unknown: 'bad', 'in-part': 'warn' })[one.answer], clock: (one) => (one.clock_ahead ? 'number warn' : 'number') };
const SHOWN_STEP = 500;
const view = { shown: 200, sort: 'router', down: false };

function answer(one) {
  if (one.answer === 'known') return 'known';
  const since = one.unknown_since ? `, since ${short(one.unknown_since)}` : '';
  return `${one.answer === 'in-part' ? 'in part' : one.answer}: ${one.cause}${since}`;
}

function clock(one) {
  if (one.clock_skew_us === null) return '–';
  return `${one.clock_skew_us > 0 ? '+' : ''}${span(one.clock_skew_us / 1e3)}`;
}

const trip = (us) => (us < 10e3 ? `${(us / 1e3).toFixed(us < 1e3 ? 2 : 1)} ms` : span(us / 1e3));

export async function loadRouters() {
  try {
    seen.routers = (await json('api/v1/routers')).routers;
  } catch (error) {
    byId('routers-count').textContent = error.message;
    return;
  }
  showRouters();
}

function showHead() {
  const place = byId('routers-head');
  if (!place.firstChild) {
    place.append(row(...COLUMNS.map(([name, title, , , meaning]) => {
      const button = element('button', { 'data-sort': name, title: meaning }, title);
      button.addEventListener('click', () => {
        view.down = view.sort === name ? !view.down : false;
        view.sort = name;
        showRouters();
      });
      return element('th', { scope: 'col', 'data-column': name }, button);
    })));
    byId('routers-words').replaceChildren(...COLUMNS.flatMap(([, title, , , meaning]) => [element('dt', {}, title), element('dd', {}, meaning)]));
  }
  for (const th of place.querySelectorAll('th')) {
    if (th.dataset.column === view.sort) th.setAttribute('aria-sort', view.down ? 'descending' : 'ascending');
    else th.removeAttribute('aria-sort');
  }
}

export function showRouters() {
  showHead();
  const wanted = byId('routers-filter').value.trim().toLowerCase();
  const meant = seen.routers.filter((one) => !wanted || [one.router, one.name, one.status, one.answer, one.cause].some((text) => text?.toLowerCase().includes(wanted)));
  const key = COLUMNS.find(([name]) => name === view.sort)[2];
  const order = (one, other) => (typeof key(one) === 'number' ? key(one) - key(other) : key(one).localeCompare(key(other), 'en', { numeric: true }));
  meant.sort((one, other) => (view.down ? -1 : 1) * order(one, other));
  fill('routers', meant.slice(0, view.shown).map((one) => row(...COLUMNS.map(([name, , sorted, content]) => {
    const told = (content ?? sorted)(one);
    const kind = typeof sorted(one) === 'number' ? 'number' : undefined;
    return name === 'router' ? head(told) : cell(told, name in KINDS ? KINDS[name](one) : kind);
  }))));
  byId('routers-count').textContent = `${whole(meant.length)} of ${whole(seen.routers.length)}`;
  byId('routers-none').hidden = seen.routers.length > 0;
  byId('routers-table').hidden = seen.routers.length === 0;
  byId('routers-more').hidden = meant.length <= view.shown;
}

byId('routers-filter').addEventListener('input', showRouters);
byId('routers-more').addEventListener('click', () => { view.shown += SHOWN_STEP; showRouters(); });
