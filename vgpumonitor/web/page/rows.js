// The snapshot as rows of the table, and which of them to show in which order.

export const STATES = {
  running: "running",
  blocked: "blocked",
  suspended: "suspended",
  no_process: "no process",
  waiting: "waiting",
  unreadable: "unreadable",
};

// Columns: key in a row, heading, and whether the greatest comes first at the first click.
export const COLUMNS = [
  { key: "namespace", title: "Namespace" },
  { key: "pod", title: "Pod" },
  { key: "container", title: "Container" },
  { key: "gpu", title: "GPU" },
  { key: "memory", title: "Memory", number: true },
  { key: "driverMemory", title: "Driver's memory", number: true },
  { key: "memoryLimit", title: "Memory limit", number: true },
  { key: "cores", title: "Cores", number: true },
  { key: "driverCores", title: "Driver's cores", number: true },
  { key: "coreLimit", title: "Core limit", number: true },
  { key: "lastKernel", title: "Idle since", number: true },
  { key: "state", title: "State" },
];

// The name of each GPU and MIG device by UUID: its index where the driver tells it.
export function gpuNames(snapshot) {
  const names = new Map();
  for (const gpu of snapshot.devices) {
    const name = gpu.index === null ? null : String(gpu.index);
    names.set(gpu.uuid, { gpu: gpu.uuid, name });
    for (const mig of gpu.mig_devices) {
      const instance = mig.gpu_instance_id === null ? "MIG" : `MIG ${mig.gpu_instance_id}`;
      names.set(mig.uuid, { gpu: gpu.uuid, name: name === null ? null : `${name} ${instance}` });
    }
  }
  return names;
}

// One row per container and GPU; one for a container without a GPU yet.
export function rowsOf(snapshot, names, shortUuid) {
  const rows = [];
  for (const container of snapshot.containers) {
    const devices = container.devices.length ? container.devices : [null];
    for (const device of devices) {
      const named = device && names.get(device.uuid);
      const inRegion = device !== null && device.index !== null;
      const row = {
        key: `${container.pod_uid}/${container.container}/${device ? device.uuid : ""}`,
        source: container,
        device,
        gpuUuid: named ? named.gpu : device ? device.uuid : null,
        namespace: container.namespace,
        pod: container.pod,
        container: container.container,
        gpu: device ? (named && named.name) || shortUuid(device.uuid) : null,
        memory: device ? device.memory_used_bytes : null,
        driverMemory: device && device.driver ? device.driver.memory_used_bytes : null,
        memoryLimit: device ? device.memory_limit_bytes : null,
        cores: device ? device.core_utilization_percent : null,
        driverCores: device && device.driver ? device.driver.core_utilization_percent : null,
        coreLimit: device ? device.core_limit_percent : null,
        lastKernel: container.last_kernel_time,
        state: container.status,
        bypassed: device ? device.bypassed_memory_bytes : null,
        // A region says so of its devices alone, and what can't be true says nothing.
        noMemoryLimit: inRegion && device.memory_limit_bytes === null && !device.implausible.includes("memory_limit_bytes"),
        noCoreLimit: inRegion && device.core_limit_percent === null,
      };
      const state = `${STATES[row.state]}${row.bypassed ? " bypasses" : ""}`;
      row.text = [row.namespace, row.pod, row.container, row.gpu, state, device && device.uuid]
        .filter(Boolean)
        .join(" ")
        .toLowerCase();
      rows.push(row);
    }
  }
  return rows;
}

// The values that are known, added up; null where none is.
export function sumOfKnown(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((total, value) => total + value, 0) : null;
}

// A sum of what is known, as text that says how many it leaves out.
export function sumText(values, write) {
  const sum = sumOfKnown(values);
  if (sum === null) return "unknown";
  const unknown = values.filter((value) => value === null).length;
  return unknown ? `${write(sum)} and ${unknown} unknown` : write(sum);
}

// Rows that have every word of the text, on the GPU and in the state that were chosen.
export function filtered(rows, { text, gpu, state }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(
    (row) =>
      (!gpu || row.gpuUuid === gpu) &&
      (!state || row.state === state) &&
      words.every((word) => row.text.includes(word)),
  );
}

const collator = new Intl.Collator("en", { numeric: true });

// Those without a value come last either way; equal ones keep the order of their names.
export function sorted(rows, { sort, descending }) {
  const sign = descending ? -1 : 1;
  const compare = (a, b) => {
    const x = a[sort];
    const y = b[sort];
    if (x === y) return 0;
    if (x === null) return 1;
    if (y === null) return -1;
    return sign * (typeof x === "number" ? x - y : collator.compare(x, y));
  };
  return [...rows].sort((a, b) => compare(a, b) || collator.compare(a.key, b.key));
}
