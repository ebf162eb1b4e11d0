// Asks for the snapshot every few seconds and shows it.

import { gpuHistory, Gpus } from "./gpus.js";
import { Detail, detailHistory } from "./detail.js";
import { setText } from "./dom.js";
import { showFindings } from "./findings.js";
import { clock, count, shortUuid, size } from "./format.js";
import { History } from "./history.js";
import { gpuNames, COLUMNS, rowsOf, STATES, sumOfKnown } from "./rows.js";
import { Table } from "./table.js";
import { showXids } from "./xids.js";

const INTERVAL = 3000;
const TIMEOUT = 10000;
const SLOWEST = 15000;

const get = (id) => document.getElementById(id);

const view = viewOf(new URLSearchParams(location.hash.startsWith("#view?") ? location.hash.slice(6) : ""));
const history = new History();
let latest = null;

const detail = new Detail(document);
const open = (row) => detail.open(row, latest.time, history);
const table = new Table(document, view, remember, open);
const gpus = new Gpus(get("gpus"), (uuid) => table.choose(uuid), open);

function viewOf(kept) {
  const sort = COLUMNS.some((column) => column.key === kept.get("sort")) ? kept.get("sort") : "memory";
  return {
    text: kept.get("text") || "",
    gpu: kept.get("gpu") || "",
    state: Object.hasOwn(STATES, kept.get("state")) ? kept.get("state") : "",
    sort,
    descending: kept.has("sort") ? kept.get("order") === "descending" : true,
  };
}

// Filter and order are in the address, so that it can be kept and passed on.
function remember() {
  const kept = new URLSearchParams();
  for (const name of ["text", "gpu", "state"]) if (view[name]) kept.set(name, view[name]);
  kept.set("sort", view.sort);
  kept.set("order", view.descending ? "descending" : "ascending");
  window.history.replaceState(null, "", `#view?${kept}`);
}

function show(snapshot) {
  latest = snapshot;
  const rows = rowsOf(snapshot, gpuNames(snapshot), shortUuid);
  history.add(snapshot.time, new Map([...gpuHistory(snapshot, rows), ...detailHistory(rows)]));
  document.title = `${snapshot.node} – vgpumonitor`;
  setText(get("node"), snapshot.node);
  const told = snapshot.devices.filter((gpu) => gpu.memory_used_bytes !== null && gpu.memory_total_bytes !== null);
  const used = sumOfKnown(told.map((gpu) => gpu.memory_used_bytes));
  const total = sumOfKnown(told.map((gpu) => gpu.memory_total_bytes));
  const untold = snapshot.devices.length - told.length;
  const texts = [
    count(snapshot.devices.length, "GPU", "GPUs"),
    count(snapshot.containers.length, "container", "containers"),
  ];
  if (total) texts.push(`${size(used)} of ${size(total)} in use`);
  if (untold) texts.push(`use of ${count(untold, "GPU", "GPUs")} unknown`);
  setText(get("totals"), texts.join(" · "));
  showFindings(get("findings"), get("finding-list"), snapshot.findings);
  gpus.update(snapshot, rows, history);
  showXids(get("xids"), get("xid-list"), get("xids-more"), snapshot);
  table.update(rows, snapshot.time, snapshot.devices);
  detail.update(rows, snapshot.time, history);
  const versions = [`vgpumonitor ${snapshot.exporter_version}`];
  const each = (field) => new Set(snapshot.devices.map((device) => device[field]).filter(Boolean));
  for (const version of each("driver_version")) versions.push(`driver ${version}`);
  for (const version of each("cuda_version")) versions.push(`CUDA ${version}`);
  const errors = Object.entries(snapshot.region_errors).map(([reason, number]) => `${reason} ${number}`);
  if (errors.length) versions.push(`region errors since the start: ${errors.join(", ")}`);
  setText(get("versions"), versions.join(" · "));
}

async function fetched() {
  const response = await fetch("api/v1/snapshot", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (!response.ok) throw new Error(`it answers with status ${response.status}`);
  const snapshot = await response.json();
  if (snapshot.version !== 1) throw new Error("it is of another version; load this page again");
  return snapshot;
}

let timer = 0;
let failures = 0;
let asking = false;
let paused = false;

async function poll() {
  clearTimeout(timer);
  if (asking || paused || document.hidden) return;
  asking = true;
  let snapshot = null;
  try {
    snapshot = await fetched();
    failures = 0;
    connected();
  } catch (error) {
    failures += 1;
    lost(error);
  }
  asking = false;
  if (snapshot) show(snapshot);
  timer = setTimeout(poll, Math.min(INTERVAL * 1.5 ** failures, SLOWEST));
}

function connected() {
  setText(get("connection"), "");
  document.body.classList.remove("stale");
  setText(get("updated"), `Updated ${clock(Date.now() / 1000)}`);
}

// Said once: the text stays the same until the exporter is back.
function lost(error) {
  document.body.classList.add("stale");
  if (get("connection").textContent) return;
  const why = error.name === "TypeError" || error.name === "TimeoutError" ? "no answer" : error.message;
  const since = latest ? ` What is shown is of ${clock(latest.time)}.` : "";
  setText(get("connection"), `Lost the exporter: ${why}. Trying again.${since}`);
}

get("pause").addEventListener("click", () => {
  paused = !paused;
  get("pause").setAttribute("aria-pressed", String(paused));
  poll();
});
document.addEventListener("visibilitychange", poll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  gpus.redraw();
  detail.redraw();
});
poll();
