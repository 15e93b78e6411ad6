// What the flow tables know: talkers, the service map, conversations.
import { bits, bytes, count, el, millis, percent, plural, rows, svg } from "./format.js";

const protocols = { 1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmp6", 89: "ospf", 132: "sctp" };
const section = (id) => document.getElementById(id);

const protocol = (row) => row.protocol === 255 ? `0x${row.ether_type.toString(16).padStart(4, "0")}` : protocols[row.protocol] ?? `protocol ${row.protocol}`;
const address = (row, side) => row[`${side}_ip`] || row[`${side}_mac`];
const called = (row, side) => row[`${side}_name`] || address(row, side);
const hasPort = (row) => row.protocol === 6 || row.protocol === 17 || row.protocol === 132;
function end(row, side, name = called(row, side)) {
  if (!hasPort(row) || !row[`${side}_port`]) return name;
  return `${name.includes(":") ? `[${name}]` : name}:${row[`${side}_port`]}`;
}
const service = (row) => `${end(row, "server")} ${protocol(row)}`;
const packets = (row) => row.client_packets + row.server_packets;
const volume = (row) => row.client_bytes + row.server_bytes;
const estimated = (row) => (row.sampling > 1 ? "≈ " : "");

// host is a button that looks for the host's flows.
function host(row, side, find, text = called(row, side)) {
  const ip = row[`${side}_ip`];
  if (!ip) return el("span", {}, text);
  const label = el("button", { type: "button", class: "host", "data-key": `${side} ${text}`, title: `Find the flows of ${ip}`, onclick: () => find(ip) }, text);
  return row[`${side}_name`] ? el("span", {}, label, el("small", {}, ip)) : label;
}

export function drawTalkers(answer, find) {
  const s = section("talkers");
  const most = Math.max(1, ...answer.rows.map((r) => r.bytes_per_second));
  rows(s.querySelector("table"), answer.rows.map((r) => [
    el("span", {}, host(r, "client", find), share(r.bytes_per_second / most)),
    bits(r.bytes_per_second), estimated(r) + bytes(r.client_bytes), estimated(r) + bytes(r.server_bytes), count(packets(r)), count(r.flows),
  ]));
  s.querySelector(".more").textContent = rest(answer, "No flow yet.");
}

function share(part) {
  return svg("svg", { class: "share", width: "100%", height: 4, "aria-hidden": "true" }, svg("rect", { height: 4, width: `${(100 * part).toFixed(1)}%` }));
}

// rest says what is not among the rows.
function rest(answer, none) {
  if (answer.rows.length === 0) return none;
  return answer.rest.flows ? `And ${plural(answer.rest.flows, "flow", "flows")} of others, ${bytes(answer.rest.bytes)}.` : "";
}

export function drawMap(answer, order) {
  const s = section("map");
  rows(s.querySelector("table"), answer.rows.map((r) => [
    called(r, "client"), { content: service(r), class: "words" },
    bits(r.bytes_per_second), estimated(r) + bytes(volume(r)), count(r.flows), millis(r.handshake_ns || r.server_rtt_ns),
  ]));
  s.querySelector(".more").textContent = rest(answer, "No flow yet.");
  s.querySelector(".picture").replaceChildren(...(answer.rows.length ? [picture(s, answer.rows, order)] : []));
}

// picture draws who calls (left) what (right); a line is as thick as it is busy.
function picture(s, edges, order) {
  const wide = Math.max(260, s.querySelector(".picture").clientWidth);
  const weight = order === "rate" ? (r) => r.bytes_per_second : volume;
  const step = 24, text = Math.min(260, wide * 0.36), chars = Math.floor(text / 6.9);
  const side = (name) => {
    const nodes = new Map();
    for (const e of edges) nodes.set(name(e), (nodes.get(name(e)) ?? 0) + weight(e));
    return [...nodes].sort((a, b) => b[1] - a[1]).map(([n]) => n);
  };
  const client = (r) => called(r, "client");
  const left = side(client), right = side(service);
  const tall = Math.max(left.length, right.length) * step + 30;
  const place = (list, name) => 38 + (list.indexOf(name) + 0.5) * ((tall - 34) / list.length) - step / 2;
  const most = Math.max(1, ...edges.map(weight));
  const cut = (t) => (t.length > chars ? `${t.slice(0, chars - 1)}…` : t);
  const map = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, height: tall, role: "img",
    "aria-label": `${plural(left.length, "client", "clients")} and ${plural(right.length, "service", "services")}; the table below has the same` },
    svg("text", { class: "head", x: 0, y: 14 }, "client"), svg("text", { class: "head", x: wide, y: 14, "text-anchor": "end" }, "service"));
  const x1 = text + 8, x2 = wide - text - 8, middle = (x1 + x2) / 2;
  for (const e of edges) {
    const y1 = place(left, client(e)), y2 = place(right, service(e));
    const path = svg("path", { d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, "stroke-width": Math.max(1.2, 14 * Math.sqrt(weight(e) / most)).toFixed(1) },
      svg("title", {}, `${client(e)} → ${service(e)}: ${bits(e.bytes_per_second)}, ${bytes(volume(e))}`));
    map.append(path);
  }
  const node = (list, x, anchor) => list.forEach((name) => {
    const y = place(list, name);
    map.append(svg("rect", { x: anchor === "end" ? x1 - 5 : x2, y: y - 7, width: 5, height: 14, rx: 2 }),
      svg("text", { x, y: y + 4, "text-anchor": anchor === "end" ? "end" : "start" }, cut(name), svg("title", {}, name)));
  });
  node(left, text, "end");
  node(right, x2 + 9, "start");
  return map;
}

export function drawFlows(answer, words, find) {
  const s = section("search");
  rows(s.querySelector("table"), answer.rows.map((r) => {
    const resent = r.client_retransmissions + r.server_retransmissions;
    return [
      host(r, "client", find, end(r, "client")),
      { content: host(r, "server", find, end(r, "server")), class: "words" },
      { content: protocol(r) + (r.vlan ? ` vlan ${r.vlan}${r.inner_vlan ? `.${r.inner_vlan}` : ""}` : ""), class: "words short" },
      bits(r.bytes_per_second), estimated(r) + bytes(r.client_bytes), estimated(r) + bytes(r.server_bytes), count(packets(r)),
      millis(r.handshake_ns || r.server_rtt_ns),
      resent ? { content: `✕ ${count(resent)} (${percent(resent, packets(r))})`, class: "bad" } : "0",
      new Date(r.first_seen).toLocaleTimeString("en-GB"),
    ];
  }));
  const found = section("found");
  found.className = "";
  found.textContent = answer.rows.length === 0
    ? (words ? "Nothing matches." : "No flow yet.")
    : `${plural(answer.rows.length, "flow", "flows")} shown` + (answer.rest.flows ? `, ${count(answer.rest.flows)} more match` : "") + ".";
}

// drawTrouble says what is wrong with the words, and leaves what was found.
export function drawTrouble(message) {
  const found = section("found");
  found.className = "bad-words";
  found.textContent = message.replace(/^searching: /, "");
}

export function drawOff() {
  for (const s of document.querySelectorAll(".of-flows")) {
    if (s.dataset.off) continue;
    s.dataset.off = "yes";
    s.replaceChildren(s.querySelector("h2"), el("p", {}, "This collector does not rebuild flows: start it with ", el("code", {}, "unspan run --flows"), "."));
  }
}
