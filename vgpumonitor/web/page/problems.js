// What is wrong: sources that are down, regions that can't be read or hold nonsense.

import { element, reconcile, setText } from "./dom.js";
import { ago, count, size } from "./format.js";

// More than these of one kind are only counted.
const MOST = 20;

export function problemsOf(snapshot) {
  const found = [];
  for (const source of snapshot.sources) {
    if (source.up !== false) continue;
    const since = source.synced === null ? "never read yet" : `last read ${ago(snapshot.time - source.synced)}`;
    found.push({
      key: `source ${source.name}`,
      mark: "▲",
      what: `${source.name} can't be read`,
      why: source.error || since,
    });
  }
  const nameOf = (container) =>
    [container.namespace, container.pod, container.container].filter(Boolean).join("/");
  const unreadable = snapshot.containers.filter((one) => one.region_state === "unreadable");
  for (const container of unreadable.slice(0, MOST)) {
    found.push({
      key: `unreadable ${container.pod_uid}/${container.container}`,
      mark: "✕",
      what: `${nameOf(container)}: region can't be read`,
      why: `${container.error || "no reason given"} (${container.path})`,
    });
  }
  more(found, "unreadable", unreadable.length - MOST, "region that can't be read", "regions that can't be read");
  const partly = [];
  for (const container of snapshot.containers) {
    for (const [place, problem] of container.problems.entries()) {
      partly.push({ container, why: problem.message, place: `problem ${place}` });
    }
    for (const device of container.devices) {
      for (const field of device.implausible) {
        partly.push({
          container,
          why: `${field} of its GPU ${device.index} is more than the GPU has`,
          place: `${device.uuid} ${field}`,
        });
      }
    }
  }
  for (const { container, why, place } of partly.slice(0, MOST)) {
    found.push({
      key: `partly ${container.pod_uid}/${container.container} ${place}`,
      mark: "!",
      what: `${nameOf(container)}: region holds nonsense`,
      why,
    });
  }
  more(found, "partly", partly.length - MOST, "value that can't be true", "values that can't be true");
  const bypassing = snapshot.containers.flatMap((container) =>
    container.devices.filter((device) => device.bypassed_memory_bytes).map((device) => ({ container, device })),
  );
  for (const { container, device } of bypassing.slice(0, MOST)) {
    found.push({
      key: `bypass ${container.pod_uid}/${container.container} ${device.uuid}`,
      mark: "!",
      what: `${nameOf(container)}: processes that HAMi-core does not know of`,
      why: `${size(device.bypassed_memory_bytes)} on GPU ${device.device_index ?? device.uuid}, to which no limit applies`,
    });
  }
  more(found, "bypass", bypassing.length - MOST, "container with such processes", "containers with such processes");
  return found;
}

function more(found, key, number, singular, plural) {
  if (number > 0) {
    found.push({ key: `more ${key}`, mark: "…", what: `${count(number, singular, plural)} besides`, why: "" });
  }
}

export function showProblems(section, list, snapshot) {
  const problems = problemsOf(snapshot);
  section.hidden = problems.length === 0;
  reconcile(
    list,
    problems,
    (problem) => problem.key,
    (problem) =>
      element(
        "li",
        {},
        element("span", { class: "problem-mark", "aria-hidden": "true" }, problem.mark),
        element("strong"),
        element("span", { class: "why" }),
      ),
    (node, problem) => {
      setText(node.children[1], problem.what);
      setText(node.children[2], problem.why);
    },
  );
}
