// Numbers and elements. Nothing here or elsewhere makes markup from strings.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
export const count = (n) => grouped.format(n);
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

// scaled writes a number in three digits with an SI prefix.
function scaled(n, unit) {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let i = 0;
  while (n >= 999.5 && i < prefixes.length - 1) { n /= 1000; i++; }
  const digits = n === 0 || n >= 99.5 ? 0 : n >= 9.95 || i === 0 ? 1 : 2;
  return `${n.toFixed(digits)} ${prefixes[i]}${unit}`.trim();
}
export const bits = (bytesPerSecond) => scaled(bytesPerSecond * 8, "bit/s");
export const bytes = (n) => scaled(n, "B");
export const rate = (n) => (n === 0 ? "0/s" : n < 10 ? `${n.toFixed(1)}/s` : `${count(n)}/s`);

// percent never shows a loss as 0 %.
export function percent(part, whole) {
  if (!whole) return "";
  const p = (100 * part) / whole;
  if (p > 0 && p < 0.01) return "< 0.01 %";
  return `${p.toFixed(p >= 99.995 || p === 0 ? 0 : 2)} %`;
}

export function span(seconds) {
  if (seconds < 2) return "";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export const millis = (ns) => (ns ? `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 0)} ms` : "");

// el makes an element: attributes, then text and elements.
export function el(tag, attributes = {}, ...content) {
  return fill(document.createElement(tag), attributes, content);
}
export function svg(tag, attributes = {}, ...content) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, content);
}
function fill(e, attributes, content) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") e.addEventListener("click", value);
    else e.setAttribute(name, value);
  }
  e.append(...content);
  return e;
}

// rows replaces the body of a table. A row is a list of cells, a cell a text, an
// element or {content, class}; the first is the row's header. On narrow screens
// rows are cards, and roles say that they are rows all the same.
export function rows(table, list) {
  const columns = [...table.querySelectorAll("thead th")].map((th) => th.textContent);
  const focused = document.activeElement?.dataset?.key;
  const body = table.querySelector("tbody");
  table.setAttribute("role", "table");
  body.setAttribute("role", "rowgroup");
  body.replaceChildren(...list.map((cells) => el("tr", { role: "row" }, ...cells.map((cell, i) => {
    const plain = typeof cell !== "object" || cell instanceof Node;
    const content = plain ? cell : cell.content;
    return i === 0
      ? el("th", { scope: "row", role: "rowheader" }, content)
      : el("td", { role: "cell", "data-column": columns[i], class: plain ? "" : cell.class }, content);
  }))));
  if (focused) [...body.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus();
}
