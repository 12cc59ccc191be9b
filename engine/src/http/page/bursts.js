// Bursts: the list, and one under the microscope.

import { byId, bytes, cell, counted, draw, element, fill, head, instant, json, number, right, row, say, seen, span, tile, whole } from './base.js';

const SHOWN_MAX = 200;

/** The verdict of a burst in a word, with the layer that is to blame. */
export const words = (burst) => (burst.verdict ? `${burst.verdict.outcome}${burst.verdict.layer ? ` (${burst.verdict.layer})` : ''}` : burst.is_running ? 'runs' : 'no verdict');
export const kind = (burst) => ({ clean: 'good', unknown: 'warn', squeezed: 'warn', lost: 'bad' })[burst.verdict?.outcome] ?? '';

export async function loadBursts() {
  seen.bursts = (await json('api/v1/bursts')).bursts;
  showBursts();
}

export function showBursts() {
  const found = seen.bursts.length;
  byId('bursts-none').hidden = found > 0;
  byId('bursts-table').hidden = found === 0;
  byId('bursts-more').textContent = found > SHOWN_MAX ? `The newest ${SHOWN_MAX} of ${whole(found)} are shown; /api/v1/bursts has all.` : '';
  fill('bursts', seen.bursts.slice(0, SHOWN_MAX).map((burst) => row(
    head(element('a', { href: `#bursts/${burst.id}`, 'aria-current': location.hash === `#bursts/${burst.id}` ? 'true' : null }, instant(burst.start_us))),
    cell(words(burst), kind(burst)), right(burst.end_us - burst.start_us, span((burst.end_us - burst.start_us) / 1e3)),
    right(burst.mappings), right(burst.peak_mappings), right(burst.routers),
    right(burst.surge_high_bytes, bytes(burst.surge_high_bytes)), right(burst.blocked_longest_ms, span(burst.blocked_longest_ms)),
  )));
}

export async function openBurst(id) {
  byId('burst').hidden = false;
  showBursts();
  await showBurst(id);
  byId('burst').focus({ preventScroll: true });
  byId('burst').scrollIntoView({ block: 'start' });
}

export async function showBurst(id) {
  let burst;
  try {
    burst = await json(`api/v1/bursts/${encodeURIComponent(id)}`);
  } catch (error) {
    byId('burst-title').textContent = 'No such burst';
    byId('burst-found').hidden = true;
    return say('burst-verdict', error.message, 'bad');
  }
  byId('burst-found').hidden = false;
  byId('burst-title').textContent = `Burst of ${instant(burst.start_us)} UTC`;
  say('burst-verdict', words(burst), kind(burst));
  byId('burst-reasons').replaceChildren(...(burst.verdict?.reasons ?? []).map((reason) => element('li', {}, reason)));
  byId('burst-facts').replaceChildren(
    tile('lasted', span((burst.end_us - burst.start_us) / 1e3)), tile('mappings', number(burst.mappings)),
    tile('received', bytes(burst.received_bytes)), tile('peak in 10 ms', number(burst.peak_mappings), 'mappings'),
    tile('routers', number(burst.routers), 'that spoke in it'), tile('surge high-water', bytes(burst.surge_high_bytes), 'received, not yet digested'),
    tile('longest blocked', span(burst.blocked_longest_ms), 'a router was not read'), tile('gaps', number(burst.gaps), 'began in it'),
  );
  byId('burst-moved').replaceChildren(...(burst.moved.length ? burst.moved.map(({ counter, by }) => {
    const [words, value] = counted(counter, by);
    return row(head(words), cell(value, 'number'));
  })
    : [row(element('td', { colspan: 2, class: kind(burst) }, burst.verdict?.outcome === 'unknown' ? 'nothing that could be read' : 'nothing moved'))]));
  for (const what of ['mappings', 'bytes', 'kernel']) draw(`burst-${what}`, `charts/bursts/${burst.id}/${what}`);
}
