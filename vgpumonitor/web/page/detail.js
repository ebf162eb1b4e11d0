// One container in a dialog: everything that the snapshot says of it, and its last minutes.

import { PercentChart } from "./charts.js";
import { element, setText } from "./dom.js";
import { ago, clock, NONE, percent, size } from "./format.js";
import { STATES } from "./rows.js";

export class Detail {
  constructor(root) {
    this.dialog = root.getElementById("detail");
    this.title = root.getElementById("detail-title");
    this.body = root.getElementById("detail-body");
    this.charts = [];
    this.key = null;
    root.getElementById("detail-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      this.key = null;
      this.#clear();
    });
  }

  open(row, time, history) {
    this.key = row.key;
    setText(this.title, [row.namespace, row.pod, row.container].filter(Boolean).join(" / "));
    this.#clear();
    this.facts = element("dl", { class: "facts" });
    this.processes = element("div", { class: "processes" });
    this.body.append(this.facts);
    if (row.device) {
      this.body.append(
        this.#chart("Cores, percent of the GPU", "cores", [
          { label: "used", colour: "--accent", filled: true },
          { label: "limit", colour: "--muted", dashed: true },
        ]),
      );
      if (row.memoryLimit !== null) {
        this.body.append(
          this.#chart("Memory, percent of the limit", "memory", [
            { label: "used", colour: "--accent", filled: true },
          ]),
        );
      }
    }
    this.body.append(this.processes);
    this.dialog.showModal();
    for (const { parent, lines, name } of this.pending) {
      this.charts.push({ name, lines, chart: new PercentChart(parent, lines, 120) });
    }
    this.update([row], time, history);
  }

  update(rows, time, history) {
    if (this.key === null) return;
    const row = rows.find((one) => one.key === this.key);
    if (!row) {
      this.facts.replaceChildren(element("div", {}, element("dt", {}, "State"), element("dd", {}, "gone")));
      this.processes.replaceChildren();
      return;
    }
    this.facts.replaceChildren(
      ...facts(row, time).map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value)),
      ),
    );
    this.processes.replaceChildren(...processTable(row));
    for (const { name, lines, chart } of this.charts) {
      chart.set(history.times, ...lines.map((line) => history.get(`${name} ${line.label} ${row.key}`)));
    }
  }

  redraw() {
    for (const { chart } of this.charts) chart.build();
  }

  #chart(title, name, lines) {
    const parent = element("div", { class: "chart", role: "img", "aria-label": `${title}, over the last minutes` });
    this.pending.push({ parent, lines, name });
    return element("div", {}, element("h3", {}, title), parent);
  }

  #clear() {
    for (const { chart } of this.charts) chart.destroy();
    this.charts = [];
    this.pending = [];
    this.body.replaceChildren();
  }
}

// The values of the dialog's lines, by series of the history.
export function detailHistory(rows) {
  const values = new Map();
  for (const row of rows) {
    if (row.cores !== null) values.set(`cores used ${row.key}`, row.cores);
    if (row.coreLimit !== null) values.set(`cores limit ${row.key}`, row.coreLimit);
    if (row.memory !== null && row.memoryLimit !== null) {
      values.set(`memory used ${row.key}`, (100 * row.memory) / row.memoryLimit);
    }
  }
  return values;
}

function facts(row, time) {
  const { source, device } = row;
  const found = [["State", STATES[row.state]]];
  if (source.error) found.push(["Error", source.error]);
  if (source.blocked_by.length) {
    const names = source.blocked_by.map(
      (one) => `${[one.namespace, one.pod, one.container].filter(Boolean).join("/")} (priority ${one.priority})`,
    );
    found.push(["Blocked by", names.join(", ")]);
  }
  if (device) {
    found.push(["GPU", `${row.gpu} · ${device.uuid}`]);
    found.push(["Memory", `${known(row.memory, size)}${limitText(row.memoryLimit, row.noMemoryLimit, size)}`]);
    if (device.memory_by_kind) {
      const kinds = Object.entries(device.memory_by_kind);
      found.push(["Memory by kind", kinds.map(([kind, bytes]) => `${kind} ${known(bytes, size)}`).join(" · ")]);
    }
    if (device.driver) {
      found.push(["Memory, as the driver says", known(device.driver.memory_used_bytes, size)]);
    }
    if (device.bypassed_memory_bytes) {
      found.push(["Unknown to HAMi-core", `${size(device.bypassed_memory_bytes)}: no limit applies to it`]);
    }
    if (device.index !== null && device.dead_memory_bytes !== 0) {
      found.push(["Held by dead processes", known(device.dead_memory_bytes, size)]);
    }
    const cores = row.cores === null && device.index !== null ? "not measured by HAMi-core" : known(row.cores, percent);
    found.push(["Cores", `${cores}${limitText(row.coreLimit, row.noCoreLimit, percent)}`]);
    if (device.driver) {
      found.push(["Cores, as the driver says", known(device.driver.core_utilization_percent, percent)]);
    }
  }
  if (source.core_limit_enforced !== null) {
    found.push(["Core limit holds now", source.core_limit_enforced ? "yes" : "no"]);
    found.push(["Priority", String(source.priority)]);
    const last = source.last_kernel_time;
    found.push(["Last kernel", last === null ? "none yet, or unknown" : `${ago(time - last)}, at ${clock(last)}`]);
    found.push(["Region layout", source.layout]);
  }
  found.push(["Pod UID", source.pod_uid + (source.pod_known ? "" : " (not known to the pod source)")]);
  if (source.path !== null) found.push(["File", source.path]);
  for (const problem of source.problems) found.push(["Problem", problem.message]);
  return found;
}

function known(value, write) {
  return value === null ? "unknown" : write(value);
}

function limitText(limit, none, write) {
  if (none) return ", no limit";
  return limit === null ? ", limit unknown" : ` of ${write(limit)}`;
}

function processTable({ source, device }) {
  if (!source.processes.length) return [];
  const headings = ["PID", "Host PID", "State", "Memory", "By the driver", "Cores", "By the driver"];
  return [
    element("h3", {}, "Processes"),
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)))),
      element(
        "tbody",
        {},
        ...source.processes.map((process) => {
          const use = process.devices.find((one) => device && one.uuid === device.uuid);
          const texts = [
            process.pid === null ? NONE : String(process.pid),
            process.host_pid === null ? NONE : String(process.host_pid),
            process.state,
            use ? size(use.memory_used_bytes) : NONE,
            use ? size(use.driver_memory_used_bytes) : NONE,
            use ? percent(use.core_utilization_percent) : NONE,
            use ? percent(use.driver_core_utilization_percent) : NONE,
          ];
          return element("tr", {}, ...texts.map((text) => element("td", {}, text)));
        }),
      ),
    ),
  ];
}
