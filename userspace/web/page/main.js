// Asks the collector every two seconds while somebody looks, and draws.
import { drawFeeds } from "./feeds.js";
import { drawFlows, drawMap, drawOff, drawTalkers, drawTrouble } from "./flows.js";
import { span } from "./format.js";
import { drawLedger, drawLosses, summary } from "./ledger.js";

const ledgerEvery = 2000, flowsEvery = 5000, patience = 8000; // ms
const $ = (id) => document.getElementById(id);
let paused = false, latest = null, answered = 0, words = "";

async function ask(path, parameters) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal: AbortSignal.timeout(patience) });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { told: true });
  return body;
}

function say(text, style) {
  const status = $("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = style;
}

function draw() {
  if (!latest) return;
  $("subject").textContent = `${latest.subject} · ${summary(latest)} · running ${span(latest.seconds) || "0 s"}`;
  drawLosses(latest);
  drawLedger(latest);
  drawFeeds(latest);
  if (!latest.flows) drawOff();
}

async function ledger() {
  try {
    latest = await ask("api/ledger", { limit: 50 });
    answered = Date.now();
    draw();
    say(latest.final ? "ended" : latest.adds_up ? "receiving" : "does not add up", latest.final ? "" : latest.adds_up ? "good" : "bad");
  } catch (e) {
    const old = answered ? `, numbers are ${span((Date.now() - answered) / 1000) || "2 s"} old` : "";
    say(e.told ? `not receiving: ${e.message}${old}` : `the collector does not answer${old}`, "bad");
  }
}

async function search() {
  const asked = words;
  try {
    const answer = await ask("api/flows", { q: asked, order: $("order").value, limit: 20 });
    if (asked === words) drawFlows(answer, asked, find);
  } catch (e) {
    if (asked === words) drawTrouble(e.told ? e.message : "the collector does not answer");
  }
}

async function flows() {
  if (!latest?.flows) return;
  const order = $("order").value;
  try {
    drawTalkers(await ask("api/flows", { by: "address", order, limit: 10 }), find);
    drawMap(await ask("api/flows", { by: "edge", order, limit: 20 }), order);
  } catch (e) {
    drawTrouble(e.told ? e.message : "the collector does not answer");
    return;
  }
  await search();
}

function find(text) {
  words = text.trim();
  $("words").value = words;
  $("search").scrollIntoView({ block: "nearest" });
  search();
}

// repeat does it, waits and does it again: never two at once.
async function repeat(what, every) {
  for (;;) {
    if (!paused && !document.hidden) await what();
    await new Promise((done) => setTimeout(done, every));
  }
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) say("paused", "");
  else ledger();
});
document.addEventListener("submit", (e) => {
  e.preventDefault(); // searching is asking, not sending: the page stays
  find($("words").value);
});
$("order").addEventListener("change", flows);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) ledger(); });
let width = innerWidth;
addEventListener("resize", () => {
  if (width === innerWidth) return; // a phone's bars come and go
  width = innerWidth;
  draw();
});

await ledger();
repeat(ledger, ledgerEvery);
repeat(flows, flowsEvery);
