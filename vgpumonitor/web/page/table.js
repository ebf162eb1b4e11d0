// The table of containers: sorted, filtered, a page of rows at a time. Rows are kept by place
// and only what changed is written, so that an update of a thousand containers is small.

import { element, setAttribute, setText } from "./dom.js";
import { ago, clock, count, NONE, percent, size } from "./format.js";
import { COLUMNS, filtered, sorted, STATES } from "./rows.js";

export const PAGE = 100;
const NEAR = 0.9;

const MARKS = {
  running: "●",
  blocked: "‖",
  suspended: "◐",
  no_process: "○",
  waiting: "◌",
  unreadable: "✕",
};

export class Table {
  // `view` is { text, gpu, state, sort, descending }; `changed` is called when a user
  // changes it, `open` with the row that a user opens.
  constructor(root, view, changed, open) {
    this.get = (id) => root.getElementById(id);
    this.view = view;
    this.changed = changed;
    this.open = open;
    this.rows = [];
    this.time = 0;
    this.page = 0;
    this.nodes = [];
    this.#header();
    this.#controls();
  }

  update(rows, time, gpus) {
    this.rows = rows;
    this.time = time;
    const named = gpus.map((gpu) => [gpu.uuid, gpu.index === null ? gpu.uuid : `${gpu.index}`]);
    if (this.view.gpu && !named.some(([uuid]) => uuid === this.view.gpu)) {
      named.push([this.view.gpu, this.view.gpu]);
    }
    options(this.get("gpu-filter"), [["", "all"], ...named], this.view.gpu);
    this.#show(false);
  }

  // Show only the containers of one GPU.
  choose(gpu) {
    this.view.gpu = gpu;
    this.get("gpu-filter").value = gpu;
    this.#viewChanged();
    this.get("containers").scrollIntoView();
    this.get("gpu-filter").focus({ preventScroll: true });
  }

  #header() {
    for (const column of COLUMNS) {
      const words = column.title.split(" ");
      const last = words.pop();
      const arrow = element("span", { class: "arrow", "aria-hidden": "true" });
      const button = element(
        "button",
        { type: "button" },
        words.map((word) => `${word} `).join(""),
        element("span", { class: "last" }, last, arrow),
      );
      button.addEventListener("click", () => {
        if (this.view.sort === column.key) this.view.descending = !this.view.descending;
        else Object.assign(this.view, { sort: column.key, descending: Boolean(column.number) });
        this.#viewChanged();
      });
      this.get("columns").append(
        element("th", { role: "columnheader", scope: "col", class: column.number ? "number" : "" }, button),
      );
    }
  }

  #controls() {
    const { view } = this;
    this.get("filters").addEventListener("submit", (event) => event.preventDefault());
    this.get("filter").value = view.text;
    this.get("filter").addEventListener("input", (event) => {
      view.text = event.target.value;
      this.#viewChanged();
    });
    this.get("gpu-filter").addEventListener("change", (event) => {
      view.gpu = event.target.value;
      this.#viewChanged();
    });
    options(this.get("state-filter"), [["", "all"], ...Object.entries(STATES)], view.state);
    this.get("state-filter").addEventListener("change", (event) => {
      view.state = event.target.value;
      this.#viewChanged();
    });
    this.get("sort").addEventListener("change", (event) => {
      const column = COLUMNS.find((one) => one.key === event.target.value);
      Object.assign(view, { sort: column.key, descending: Boolean(column.number) });
      this.#viewChanged();
    });
    options(this.get("sort"), COLUMNS.map((column) => [column.key, column.title]), view.sort);
    this.get("previous").addEventListener("click", () => this.#turn(-1));
    this.get("next").addEventListener("click", () => this.#turn(1));
  }

  #turn(pages) {
    this.page += pages;
    this.#show(true);
    this.get("containers").scrollIntoView();
  }

  #viewChanged() {
    this.page = 0;
    this.#show(true);
    this.changed();
  }

  #show(byUser) {
    const { view } = this;
    const shown = sorted(filtered(this.rows, view), view);
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const rows = shown.slice(this.page * PAGE, (this.page + 1) * PAGE);
    for (const [place, column] of COLUMNS.entries()) {
      const header = this.get("columns").children[place];
      const sort = view.sort === column.key ? (view.descending ? "descending" : "ascending") : "none";
      setAttribute(header, "aria-sort", sort);
      setText(header.querySelector(".arrow"), { ascending: "▲", descending: "▼", none: "" }[sort]);
    }
    this.get("sort").value = view.sort;
    this.#rows(rows);
    this.get("pages").hidden = pages === 1;
    this.get("previous").disabled = this.page === 0;
    this.get("next").disabled = this.page === pages - 1;
    const first = this.page * PAGE;
    setText(this.get("page-number"), `${first + 1}–${first + rows.length} of ${shown.length.toLocaleString("en")}`);
    this.get("table").hidden = rows.length === 0;
    this.get("empty").hidden = rows.length !== 0;
    setText(
      this.get("empty"),
      this.rows.length ? "No container matches the filter." : "No container has used a shared GPU yet: there is no directory under the containers directory.",
    );
    // A live region: only what the user did is news, not each update.
    if (byUser || !this.get("found").textContent) {
      const text = shown.length === this.rows.length ? "" : ` of ${this.rows.length.toLocaleString("en")}`;
      setText(this.get("found"), count(shown.length, "row", "rows") + text);
    }
  }

  #rows(rows) {
    const body = this.get("rows");
    const focused = this.nodes.find((node) => node.contains(document.activeElement));
    const focusedKey = focused && focused.row.key;
    while (this.nodes.length < rows.length) {
      const node = this.#makeRow();
      this.nodes.push(node);
      body.append(node);
    }
    for (const node of this.nodes.splice(rows.length)) node.remove();
    for (const [place, row] of rows.entries()) fillRow(this.nodes[place], row, this.time);
    if (focusedKey) {
      const now = this.nodes.find((node) => node.row.key === focusedKey);
      const target = now || this.nodes[0];
      if (target && !target.contains(document.activeElement)) {
        target.querySelector("button").focus({ preventScroll: true });
      }
    }
  }

  #makeRow() {
    const node = element("tr", { role: "row" });
    for (const column of COLUMNS) {
      const attributes = { role: "cell", "data-label": column.title, class: column.key };
      if (column.key === "pod") {
        const button = element("button", { type: "button", class: "link" });
        button.addEventListener("click", () => this.open(node.row));
        node.append(element("th", { ...attributes, role: "rowheader", scope: "row" }, button));
      } else if (column.key === "memory" || column.key === "cores") {
        node.append(
          element(
            "td",
            attributes,
            element("span", { class: "value" }),
            element("span", { class: "meter", "aria-hidden": "true" }, element("span", { class: "fill" })),
          ),
        );
      } else if (column.key === "state") {
        node.append(
          element(
            "td",
            attributes,
            element("span", { class: "mark", "aria-hidden": "true" }),
            element("span"),
            element("span", { class: "bypassed" }),
          ),
        );
      } else node.append(element("td", attributes));
    }
    return node;
  }
}

function fillRow(node, row, time) {
  node.row = row;
  const [namespace, pod, container, gpu, memory, driverMemory, memoryLimit, ...others] = node.children;
  const [cores, driverCores, coreLimit, lastKernel, state] = others;
  setText(namespace, row.namespace || NONE);
  setText(pod.firstChild, row.pod);
  setText(container, row.container);
  setText(gpu, row.gpu ?? NONE);
  meter(memory, size(row.memory), row.memory, row.memoryLimit);
  setText(driverMemory, size(row.driverMemory));
  setText(memoryLimit, row.noMemoryLimit ? "none" : size(row.memoryLimit));
  meter(cores, percent(row.cores), row.cores, row.coreLimit ?? 100);
  setText(driverCores, percent(row.driverCores));
  setText(coreLimit, row.noCoreLimit ? "none" : percent(row.coreLimit));
  setText(lastKernel, row.lastKernel === null ? NONE : ago(time - row.lastKernel));
  setAttribute(lastKernel, "title", row.lastKernel === null ? "" : `last kernel at ${clock(row.lastKernel)}`);
  setAttribute(state, "class", `state ${row.state}`);
  setText(state.children[0], MARKS[row.state]);
  setText(state.children[1], STATES[row.state]);
  bypass(state.children[2], row.bypassed);
}

// The meter says how much of the limit is used; near its end it gets a mark as well.
function meter(cell, text, value, limit) {
  const [number, bar] = cell.children;
  const share = value !== null && limit ? Math.min(value / limit, 1) : 0;
  const near = cell.classList.contains("memory") && share >= NEAR;
  setText(number, near ? `▲ ${text}` : text);
  setAttribute(number, "title", near ? "near its limit" : "");
  cell.classList.toggle("near", near);
  bar.hidden = value === null || !limit;
  bar.firstChild.style.width = `${100 * share}%`;
}

// What the driver says of the container's processes that HAMi-core does not know of.
function bypass(cell, bytes) {
  cell.hidden = !bytes;
  setText(cell, bytes ? `bypasses with ${size(bytes)}` : "");
  setAttribute(cell, "title", bytes ? "unknown to HAMi-core: no limit applies to it" : "");
}

function options(select, pairs, value) {
  const known = JSON.stringify(pairs);
  if (select.known !== known) {
    select.known = known;
    select.replaceChildren(...pairs.map(([key, text]) => element("option", { value: key }, text)));
  }
  if (select.value !== value) select.value = value;
}
