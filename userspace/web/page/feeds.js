// Feeds: how fast each comes, and what is known to be lost of it.
import { bits, count, el, percent, plural, rows, rate, span, svg } from "./format.js";

const kept = 60; // readings remembered of each feed that is shown
let history = new Map();

export function drawFeeds(ledger) {
  const section = document.getElementById("feeds");
  const now = new Map();
  for (const feed of ledger.feeds) {
    const key = `${feed.name} ${feed.collector}`;
    now.set(key, [...(history.get(key) ?? []), feed.packets_per_second].slice(-kept));
  }
  history = now;
  rows(section.querySelector("table"), ledger.feeds.map((f) => [
    span(f.idle_seconds) ? el("span", {}, f.name, el("small", {}, `silent for ${span(f.idle_seconds)}`)) : f.name,
    spark(now.get(`${f.name} ${f.collector}`)),
    rate(f.packets_per_second).replace("/s", ""),
    bits(f.bytes_per_second),
    count(f.packets),
    f.lost === null ? "unknown" : f.lost === 0 ? "0" : { content: el("span", {}, `✕ ${count(f.lost)}`, el("small", {}, percent(f.lost, f.packets + f.lost))), class: "bad" },
  ]));
  const more = ledger.feeds_known - ledger.feeds.length;
  section.querySelector(".more").textContent = ledger.feeds_known === 0
    ? "No mirror feed has come yet: unspan check says whether this machine can receive; the sender must mirror to an address of this interface."
    : (more > 0 ? `And ${plural(more, "feed", "feeds")} more, less busy. ` : "") +
      `Rates over ${ledger.rate_seconds.toFixed(1)} s. Lost is unknown where the sender does not number its packets.`;
}

function spark(values) {
  const most = Math.max(1, ...values);
  const points = values.map((v, i) => `${((kept - values.length + i) * 100) / (kept - 1)},${(22 - (20 * v) / most).toFixed(1)}`);
  const picture = svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (points.length > 1) {
    const first = points[0].split(",")[0];
    picture.append(svg("polygon", { points: `${first},23 ${points.join(" ")} 100,23` }), svg("polyline", { points: points.join(" ") }));
  }
  return el("span", {}, picture, el("span", { class: "unseen" }, `at most ${rate(most)}`));
}
