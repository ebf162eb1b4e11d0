// Each GPU: a bar of its memory with the containers in it, and its cores over time.

import { PercentChart } from "./charts.js";
import { element, reconcile, setAttribute, setText } from "./dom.js";
import { count, percent, shortUuid, size } from "./format.js";
import { sumOfKnown, sumText } from "./rows.js";

const LINES = [
  { label: "GPU", colour: "--accent", filled: true },
  { label: "containers", colour: "--second" },
  { label: "limits", colour: "--muted", dashed: true },
];

export class Gpus {
  // `choose` is called with a GPU's UUID, `open` with a row.
  constructor(parent, choose, open) {
    this.parent = parent;
    this.choose = choose;
    this.open = open;
    this.charts = new Map();
  }

  update(snapshot, rows, history) {
    const byGpu = new Map(snapshot.devices.map((gpu) => [gpu.uuid, []]));
    for (const row of rows) if (byGpu.has(row.gpuUuid)) byGpu.get(row.gpuUuid).push(row);
    const gpus = snapshot.devices.map((gpu) => ({
      gpu,
      rows: byGpu.get(gpu.uuid),
      allocations: snapshot.allocations.filter((allocated) => allocated.device_uuid === gpu.uuid),
    }));
    for (const [uuid, chart] of this.charts) {
      if (!byGpu.has(uuid)) {
        chart.destroy();
        this.charts.delete(uuid);
      }
    }
    reconcile(
      this.parent,
      gpus,
      ({ gpu }) => gpu.uuid,
      (item) => this.#make(item),
      (node, item) => this.#fill(node, item, history),
    );
    this.parent.classList.toggle("none", gpus.length === 0);
  }

  redraw() {
    for (const chart of this.charts.values()) chart.build();
  }

  #make({ gpu }) {
    const id = `gpu-${gpu.uuid}`;
    const button = element("button", { type: "button", class: "link" });
    button.addEventListener("click", () => this.choose(gpu.uuid));
    const node = element(
      "article",
      { class: "panel", "aria-labelledby": id },
      element(
        "div",
        { class: "panel-head" },
        element("h3", { id }, button, " ", element("span", { class: "name" })),
        element("p", { class: "sensors" }),
      ),
      element("p", { class: "conditions" }),
      element("p", { class: "figure memory-figure" }),
      element(
        "div",
        { class: "bar", role: "img" },
        element("div", { class: "blocks" }),
        element("div", { class: "end", hidden: "" }),
      ),
      element("p", { class: "figure cores-figure" }),
      element("div", { class: "chart", role: "img" }),
      element("ul", { class: "migs", "aria-label": "MIG devices" }),
    );
    node.querySelector(".bar").addEventListener("click", (event) => {
      const block = event.target.closest(".block");
      if (block && block.row) this.open(block.row);
    });
    return node;
  }

  #fill(node, { gpu, rows, allocations }, history) {
    const part = (selector) => node.querySelector(selector);
    setText(part("h3 button"), gpu.index === null ? shortUuid(gpu.uuid) : `GPU ${gpu.index}`);
    setAttribute(part("h3 button"), "title", `${gpu.uuid}: show its containers`);
    setText(part(".name"), gpu.name || "unknown to the driver");
    const sensors = [];
    if (gpu.temperature_celsius !== null) sensors.push(`${Math.round(gpu.temperature_celsius)} °C`);
    if (gpu.power_watts !== null) sensors.push(`${Math.round(gpu.power_watts)} W`);
    if (gpu.throttled.length) sensors.push(`▼ throttled: ${gpu.throttled.join(", ")}`);
    setText(part(".sensors"), sensors.join(" · "));
    setText(part(".conditions"), gpu.conditions.map((condition) => `! ${condition}`).join(" · "));
    part(".conditions").classList.toggle("lost", gpu.up === false);
    part(".conditions").hidden = gpu.conditions.length === 0;

    const blocks = rows.map((row) => blockOf(row));
    const unattributed = gpu.unattributed_memory_bytes || 0;
    if (unattributed) {
      blocks.push({
        key: "unattributed",
        width: unattributed,
        used: 0,
        dead: 0,
        kind: "unattributed",
        title: `Processes in no container: ${size(unattributed)}`,
      });
    }
    const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
    const limits = sumOfKnown(rows.map((row) => row.memoryLimit));
    const total = gpu.memory_total_bytes;
    const scale = Math.max(total || 0, sum(blocks.map((block) => block.width)), 1);

    const texts = [useText(gpu, rows)];
    if (limits !== null) texts.push(`limits ${size(limits)}`);
    if (allocations.length) texts.push(`allocated ${sumText(allocations.map((one) => one.memory_bytes), size)}`);
    if (gpu.dead_memory_bytes) texts.push(`✕ dead ${size(gpu.dead_memory_bytes)}`);
    if (unattributed) texts.push(`? in no container ${size(unattributed)}`);
    figure(part(".memory-figure"), "Memory", texts);
    setAttribute(
      part(".bar"),
      "aria-label",
      `Memory: ${texts.join(", ")}; ${count(rows.length, "container", "containers")}`,
    );
    reconcile(part(".blocks"), blocks, (block) => block.key, makeBlock, (block, item) =>
      fillBlock(block, item, scale),
    );
    const over = total !== null && scale > total;
    part(".end").hidden = !over;
    if (over) part(".end").style.left = `${(100 * total) / scale}%`;

    const containers = rows.map(coresOf);
    const limited = rows.filter((row) => row.coreLimit !== null);
    const cores = [gpu.core_utilization_percent === null ? "unknown" : percent(gpu.core_utilization_percent)];
    if (sumOfKnown(containers) !== null) cores.push(`containers ${sumText(containers, percent)}`);
    if (limited.length) cores.push(`limits ${percent(sum(limited.map((row) => row.coreLimit)))}`);
    figure(part(".cores-figure"), "Cores", cores);
    setAttribute(part(".chart"), "aria-label", `Cores over the last minutes; now: ${cores.join(", ")}`);
    let chart = this.charts.get(gpu.uuid);
    if (!chart) {
      chart = new PercentChart(part(".chart"), LINES, 104);
      this.charts.set(gpu.uuid, chart);
    }
    chart.set(history.times, ...LINES.map((line) => history.get(`${line.label} ${gpu.uuid}`)));

    reconcile(
      part(".migs"),
      gpu.mig_devices,
      (mig) => mig.uuid,
      () => element("li"),
      (item, mig) =>
        setText(
          item,
          `${mig.name || shortUuid(mig.uuid)}: ${sumText([mig.memory_used_bytes], size)} of ${sumText([mig.memory_total_bytes], size)}`,
        ),
    );
  }
}

// The values of the charts' lines, by series of the history.
export function gpuHistory(snapshot, rows) {
  const values = new Map();
  const add = (key, value) => values.set(key, (values.get(key) || 0) + value);
  for (const gpu of snapshot.devices) {
    if (gpu.core_utilization_percent !== null) {
      values.set(`GPU ${gpu.uuid}`, gpu.core_utilization_percent);
    }
  }
  for (const row of rows) {
    if (coresOf(row) !== null) add(`containers ${row.gpuUuid}`, coresOf(row));
    if (row.coreLimit !== null) add(`limits ${row.gpuUuid}`, row.coreLimit);
  }
  return values;
}

function figure(node, label, texts) {
  if (!node.firstChild) {
    node.append(element("span", { class: "label" }), element("strong"), element("span", { class: "rest" }));
  }
  const [name, first, rest] = node.children;
  setText(name, label);
  setText(first, texts[0]);
  // A value stays on one line with what it is.
  setText(rest, texts.slice(1).map((text) => text.replaceAll(" ", "\u00a0")).join(" · "));
}

// What is in use of the GPU, by the driver; otherwise what is known of its containers.
function useText(gpu, rows) {
  const of = gpu.memory_total_bytes === null ? "" : ` of ${size(gpu.memory_total_bytes)}`;
  if (gpu.memory_used_bytes !== null) return `${size(gpu.memory_used_bytes)}${of} used`;
  const byContainers = rows.map(memoryOf);
  if (sumOfKnown(byContainers) === null) return `unknown${of}`;
  return `${sumText(byContainers, size)}${of} by containers`;
}

// What a container holds: HAMi-core's account and what it does not know of, or the driver's where
// there is no region.
function memoryOf(row) {
  return row.memory === null ? row.driverMemory : row.memory + (row.device.bypassed_memory_bytes || 0);
}

function coresOf(row) {
  return row.driverCores ?? row.cores;
}

function blockOf(row) {
  const memory = memoryOf(row);
  const used = memory || 0;
  const dead = row.device.dead_memory_bytes || 0;
  const limit =
    row.memoryLimit === null ? (row.noMemoryLimit ? "no limit" : "limit unknown") : `of ${size(row.memoryLimit)}`;
  const name = [row.namespace, row.pod, row.container].filter(Boolean).join("/");
  return {
    key: row.key,
    row,
    used,
    dead,
    width: Math.max(row.memoryLimit || 0, used + dead),
    kind: `${row.memoryLimit === null ? "unlimited" : "limited"}${memory === null ? " unknown" : ""}`,
    title: `${name}: ${sumText([memory], size)} ${limit}${dead ? `, ${size(dead)} held by dead processes` : ""}`,
  };
}

function makeBlock() {
  return element(
    "div",
    { class: "block" },
    element("span", { class: "use" }),
    element("span", { class: "dead" }),
  );
}

function fillBlock(node, block, scale) {
  node.row = block.row;
  setAttribute(node, "class", `block ${block.kind}`);
  setAttribute(node, "title", block.title);
  const share = (value, whole) => `${whole ? (100 * value) / whole : 0}%`;
  node.style.width = share(block.width, scale);
  const [use, dead] = node.children;
  use.style.width = share(block.used, block.width);
  dead.style.width = share(block.dead, block.width);
}
