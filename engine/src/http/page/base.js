// What all parts of the page share: asking /api/v1/, words for numbers, elements. No library.

export const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** What is known; each part shows some of it. */
export const seen = { moments: [], bursts: [], routers: [] };

// --- Asking ---------------------------------------------------------------------------------

/** The collector is not there, or does not answer: it is asked again. */
export class Gone extends Error {}

function headers() {
  const token = sessionStorage.getItem('token');
  return token ? { authorization: `Bearer ${token}` } : {};
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { headers: headers(), ...options }).catch((error) => {
    throw error.name === 'AbortError' ? error : new Gone('The collector does not answer.');
  });
  if (answer.status === 401) document.dispatchEvent(new Event('refused'));
  if (!answer.ok) {
    const fault = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    throw new Error(fault.error);
  }
  return answer;
}

export const json = async (path, options) => (await ask(path, options)).json();

// --- Words ----------------------------------------------------------------------------------

export const whole = (value) => count.format(value);

export function bytes(value) {
  for (const [least, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
    if (value >= least) return `${(value / least).toFixed(1)} ${unit}`;
  }
  return `${whole(value)} B`;
}

export function span(ms) {
  if (ms === null || ms === undefined) return '–';
  const size = Math.abs(ms);
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 120e3) return `${(ms / 1e3).toFixed(1)} s`;
  if (size < 7200e3) return `${Math.round(ms / 60e3)} min`;
  return `${(ms / 3600e3).toFixed(1)} h`;
}

/** A counter by its name and how much it moved: names of those that count time end in `_us`. */
export const counted = (counter, by, of) =>
  counter.endsWith('_us') ? [counter.slice(0, -3), number(by, span(by / 1e3), of)] : [counter, number(by, whole(by), of)];
export const instant = (us) => new Date(us / 1e3).toISOString().replace('T', ' ').replace(/\.?0*Z$/, '');
export const clock = (us) => new Date(us / 1e3).toISOString().slice(11, 19);
export const short = (text) => (text ? text.replace('T', ' ').replace(/(\.\d+)?Z$/, '') : '–');
export const rate = (moment, gained) => (gained * 1e6) / Math.max(moment.span_us, 1);

// --- Elements -------------------------------------------------------------------------------

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat().map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** A number as words, with its exact value; `of` says for programs what it is of. */
export const number = (value, text, of) => element('data', { value, 'data-of': of }, text ?? whole(value));
export const cell = (content, kind) => element('td', { class: kind }, content);
export const right = (value, text, of) => cell(number(value, text, of), 'number');
export const row = (...cells) => element('tr', {}, ...cells);
export const head = (content, title) => element('th', { scope: 'row', title }, content);
export const fact = (name, value) => row(head(name), cell(value, 'number'));

export function tile(name, value, note, kind) {
  const dd = element('dd', { class: kind }, value);
  if (note) dd.append(element('small', {}, note));
  return element('div', {}, element('dt', {}, name), dd);
}

export function say(id, text, kind) {
  const place = byId(id);
  // Whoever listens to the page hears it only when it changes.
  if (place.textContent !== text) place.textContent = text;
  place.className = `verdict ${kind ?? ''}`;
}

/** Puts rows into a table; whoever stands on a link of it by keyboard still stands there after. */
export function fill(id, rows) {
  const place = byId(id);
  const link = place.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
  place.replaceChildren(...rows);
  if (link) [...place.querySelectorAll('a')].find((one) => one.getAttribute('href') === link)?.focus({ preventScroll: true });
}

/** What the collector has drawn, in the place of what was there. */
export const fragment = (text) => new DOMParser().parseFromString(text, 'text/html').body.childNodes;

/** Whether it could be drawn. */
export async function draw(id, path) {
  const place = byId(id);
  const width = Math.round(place.clientWidth) || 720;
  try {
    const text = await (await ask(`${path}${path.includes('?') ? '&' : '?'}width=${width}`)).text();
    place.replaceChildren(...fragment(text));
    return true;
  } catch (error) {
    // A chart of before says more than that there is none now; that nobody answers stands above.
    if (error instanceof Gone && place.querySelector('svg')) return true;
    place.replaceChildren(element('p', { class: 'none' }, error.message));
    return false;
  }
}
