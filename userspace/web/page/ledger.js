// The ledger as a picture: stages from the wire to the disk, one below the
// other. What a stage hands on flows down; what leaves branches off to the row
// that names it.
import { count, el, percent, plural, rate, svg } from "./format.js";

// Kinds of boxes: how they are drawn and what they are called. An unknown kind
// is a loss: better a false alarm than a hidden one.
const kinds = {
  onward: { style: "onward", mark: "↓", name: "handed on" },
  not_ours: { style: "aside", mark: "→", name: "not ours" },
  held: { style: "aside", mark: "…", name: "waiting" },
  intended: { style: "intended", mark: "−", name: "as configured" },
};
const kindOf = (name) => kinds[name] ?? { style: "loss", mark: "✕", name: `lost: ${name}` };

const cures = [
  ["upstream", "on the way here: the sender or the network"],
  ["kernel", "on this machine: the kernel and its rings"],
  ["disk", "at the disk"],
  ["intended", "dropped as configured"],
  ["export", "flow records that no sink took; packets are not lost"],
];

// The way of a packet. Other lines (reassembly, flows, exports) stand beside it.
const trunk = ["wire", "xdp", "afxdp", "worker", "output"];

export function drawLosses(ledger) {
  const found = new Map();
  for (const line of ledger.lines) {
    for (const box of line.boxes) {
      if (!box.packets || kinds[box.kind] && box.kind !== "intended") continue;
      if (!found.has(box.kind)) found.set(box.kind, []);
      found.get(box.kind).push([line, box]);
    }
  }
  const known = new Map(cures);
  const all = [...cures.filter(([k]) => k !== "export" || ledger.lines.some((l) => l.title === "export")), ...[...found.keys()].filter((k) => !known.has(k)).map((k) => [k, "on the way out"])];
  document.getElementById("kinds").replaceChildren(...all.map(([kind, where]) => {
    const boxes = found.get(kind) ?? [];
    const item = el("li", { class: boxes.length ? kindOf(kind).style : "none", "data-kind": kind },
      el("strong", {}, boxes.length ? `${kindOf(kind).mark} ${kind}` : `✓ ${kind}: none`),
      el("span", { class: "where" }, where));
    // Listed, not added up: one packet may be a gap in a sequence and more.
    for (const [line, box] of boxes) {
      item.append(el("span", {}, `${line.title}: ${box.title.replace(/^dropped: /, "")} ${count(box.packets)}` + (box.rate ? `, now ${rate(box.rate)}` : "")));
    }
    return item;
  }));
  const wrong = ledger.lines.filter((l) => !l.adds_up).map((l) => l.title);
  const verdict = document.getElementById("verdict");
  verdict.className = wrong.length ? "bad" : "";
  const moving = ledger.lines.some((l) => l.balance !== 0);
  verdict.textContent = wrong.length
    ? `✕ Does not add up: ${wrong.join(", ")}. This is a defect of Unspan: please report it with the ledger.`
    : `✓ Every line adds up${moving ? ", but for packets on their way while it was read" : ""}.`;
}

export function drawLedger(ledger) {
  const stages = document.getElementById("stages");
  stages.replaceChildren(...ledger.lines.map(stage));
  draw(stages, ledger);
}

// boxesOf are the boxes of a line and what it lacks, as rows.
function boxesOf(line) {
  const boxes = line.boxes.map((b) => ({ ...b, ...kindOf(b.kind), kindName: kindOf(b.kind).name }));
  if (line.balance > 0 && line.adds_up) {
    boxes.push({ title: "on their way", packets: line.balance, rate: 0, style: "aside", mark: "…", kindName: "read while running" });
  } else if (line.balance !== 0) {
    boxes.push({ title: line.balance > 0 ? "IN NO BOX" : "COUNTED TWICE", packets: Math.abs(line.balance), rate: 0, style: "loss", mark: "✕", kindName: "does not add up" });
  }
  return boxes;
}

function stage(line) {
  const table = el("table", {},
    el("caption", { class: "unseen" }, `${line.title}: what became of ${line.in.title}`),
    el("thead", { class: "unseen" }, el("tr", {}, ...["box", "packets", "share", "now"].map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, ...boxesOf(line).map((b) => el("tr", { class: b.style, "data-box": `${line.name}.${b.name ?? "balance"}` },
      el("th", { scope: "row" }, `${b.mark} ${b.title} `, b.style === "onward" ? "" : el("span", { class: "kind" }, `(${b.kindName})`)),
      el("td", {}, count(b.packets)),
      el("td", { class: "share-of" }, percent(b.packets, line.in.packets)),
      el("td", {}, b.rate ? rate(b.rate) : "")))));
  const section = el("section", { class: "stage", "data-line": line.name },
    el("h3", {}, line.title, el("span", {}, `${line.in.title} `, el("b", {}, count(line.in.packets)), line.in.rate ? ` ${rate(line.in.rate)}` : "")),
    table);
  for (const note of line.notes ?? []) section.append(el("p", { class: "note" }, note));
  return section;
}

// draw puts the bands where the rows are.
function draw(stages, ledger) {
  const origin = stages.getBoundingClientRect();
  const pipe = parseFloat(getComputedStyle(stages).getPropertyValue("--pipe"));
  const widest = pipe * 0.6;
  const most = Math.max(1, ...ledger.lines.filter((l) => trunk.includes(l.name)).map((l) => l.in.packets));
  const width = (packets) => (packets ? Math.max(3, (widest * packets) / most) : 0);
  const picture = svg("svg", { "aria-hidden": "true" }, svg("defs", {}, svg("pattern",
    { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 6, height: 6 }), svg("path", { d: "M0 0V6" }))));
  const band = (style, d) => picture.append(svg("path", { class: `band ${style}`, d }));
  const sections = [...stages.querySelectorAll(".stage")];
  const top = (i) => sections[i].getBoundingClientRect().top - origin.top;
  let passing = 0; // width of what goes by a stage that stands beside the way
  ledger.lines.forEach((line, i) => {
    const main = trunk.includes(line.name);
    const y0 = top(i), y1 = i + 1 < sections.length ? top(i + 1) : origin.height;
    const boxes = boxesOf(line);
    const left = main ? 0 : Math.min(passing + 8, pipe - 14);
    const whole = main ? width(line.in.packets) : Math.min(width(line.in.packets), pipe - left - 8);
    const share = (b) => (line.in.packets ? (whole * b.packets) / line.in.packets : 0);
    const gone = boxes.filter((b) => b.style !== "onward").reduce((sum, b) => sum + share(b), 0);
    const kept = Math.max(whole - gone, boxes.some((b) => b.style === "onward" && b.packets) ? 3 : 0);
    const next = ledger.lines.slice(i + 1).find((l) => trunk.includes(l.name));
    if (main) {
      const into = next ? width(next.in.packets) : kept;
      if (whole) band("trunk", `M0 ${y0}H${kept}V${y1 - 16}L${next && trunk.includes(ledger.lines[i + 1].name) ? into : kept} ${y1}H0Z`);
      passing = next ? kept : 0;
    } else {
      if (passing && next) band("trunk", `M0 ${y0}H${passing}V${y1 - 16}L${width(next.in.packets)} ${y1}H0Z`);
      if (whole) band("trunk", `M${left} ${y0}H${left + kept}V${y1 - 12}H${left}Z`);
    }
    // From the right edge inwards, in the order of the rows: no band crosses another.
    let right = left + whole;
    const trs = sections[i].querySelectorAll("tbody tr");
    boxes.forEach((b, n) => {
      if (b.style === "onward" || !b.packets) return;
      const row = trs[n].getBoundingClientRect();
      const y = row.top + row.height / 2 - origin.top;
      const thick = Math.max(4, share(b)), thin = Math.min(thick, row.height - 4) / 2;
      const x2 = Math.max(right, left + thick), x1 = x2 - thick;
      band(b.style, `M${x2} ${y0}C${x2} ${y - thin} ${x2} ${y - thin} ${pipe} ${y - thin}V${y + thin}C${x1} ${y + thin} ${x1} ${y + thin} ${x1} ${y0}Z`);
      right -= share(b);
    });
    if (whole) band("onward", `M${left} ${y0}H${left + whole}v5H${left}Z`);
  });
  stages.append(picture);
}

export const summary = (ledger) => plural(ledger.feeds_known, "feed", "feeds");
