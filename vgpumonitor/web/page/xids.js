// The errors that the driver reported of GPUs: what they mean, what to do, and who was there.

import { element, reconcile, setText } from "./dom.js";
import { ago, clock, count } from "./format.js";

// More than these are only counted.
const MOST = 20;

const CLASSES = {
  application: "program",
  reset: "needs a reset",
  hardware: "hardware",
  information: "for information",
  unknown: "unknown",
};

export function showXids(section, list, more, snapshot) {
  const errors = snapshot.xid_errors;
  section.hidden = errors.length === 0;
  setText(more, errors.length > MOST ? `${count(errors.length - MOST, "older one", "older ones")} besides` : "");
  reconcile(
    list,
    errors.slice(0, MOST),
    (error) => `${error.device_uuid} ${error.xid}`,
    () =>
      element(
        "li",
        {},
        element("p", {}, element("strong"), " ", element("span", { class: "class" }), " ", element("span", { class: "when" })),
        element("p"),
        element("p", { class: "then" }),
      ),
    (node, error) => {
      const [head, what, then] = node.children;
      const times = error.count === 1 ? "" : `, ${count(error.count, "time", "times")} since the exporter started`;
      setText(head.children[0], `GPU ${error.device_index}: XID ${error.xid}`);
      setText(head.children[1], CLASSES[error.class]);
      node.className = error.class;
      setText(head.children[2], `${ago(snapshot.time - error.last_time)}, at ${clock(error.last_time)}${times}`);
      setText(what, `${capital(error.meaning)}. ${error.action}`);
      const names = error.containers.map((one) => [one.namespace, one.pod, one.container].filter(Boolean).join("/"));
      const where = error.mig_uuid === null ? "On the GPU then" : `On its MIG device ${error.mig_uuid} then`;
      setText(then, `${where}: ${names.join(", ") || "no container"}`);
    },
  );
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
