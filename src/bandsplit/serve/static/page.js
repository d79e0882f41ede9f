// Parts of the page of `bandsplit serve`: elements, words, and requests.

export const find = (selector) => document.querySelector(selector);

/** Make an element with attributes, listeners ("on..."), and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Write a time: below 10 s with two digits, so that fast models can be compared. */
export function duration(seconds) {
  if (seconds < 9.95) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);
export const announce = (text) => { find("#news").textContent = text; };

/** Fetch an address; throw a refusal, with its `status`, or that the server does not answer, without one. */
export async function ask(address, options = {}) {
  const answer = await fetch(address, options).catch(() => { throw new Error("the server does not answer"); });
  if (!answer.ok) {
    const { detail } = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(detail || `the server answers ${answer.status}`), { status: answer.status });
  }
  return answer;
}

/** Remove an item of a list; if it has the focus, the name of a neighbour gets it, where a further key does no harm. */
export function remove(item) {
  const had = item.contains(document.activeElement);
  const next = item.nextElementSibling ?? item.previousElementSibling;
  const place = next?.querySelector("h3") ?? item.closest("section").querySelector("#songs, #jobs");
  item.remove();
  if (had) place.focus();
}
