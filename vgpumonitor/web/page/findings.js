// What is wrong, as the exporter found it: the worst first, each to unfold for why and what to do.

import { element, reconcile, setAttribute, setText } from "./dom.js";
import { count } from "./format.js";

const MARKS = { critical: "▲", warning: "!", info: "i" };

// More than these places of one finding are only counted.
const MOST = 20;

export function showFindings(section, list, findings) {
  section.hidden = findings.length === 0;
  // The exporter puts the worst first.
  if (findings.length) setAttribute(list, "data-worst", findings[0].severity);
  reconcile(list, findings, (finding) => finding.id, made, update);
}

function made(finding) {
  const summary = element(
    "summary",
    {},
    element("span", { class: "finding-mark", "aria-hidden": "true" }, MARKS[finding.severity] || "!"),
    element("span", { class: "severity" }, finding.severity),
    element("strong", {}, finding.title),
    element("span", { class: "where" }),
  );
  const body = element(
    "div",
    { class: "finding-body" },
    element("ul", { class: "seen" }),
    element("p", {}, ...prose(finding.why)),
    element("p", { class: "mend" }, element("b", {}, "What to do: "), ...prose(finding.mend)),
    element("p", { class: "document" }, "Explained in ", element("code", {}, finding.document)),
  );
  return element("li", { "data-severity": finding.severity }, element("details", {}, summary, body));
}

function update(node, finding) {
  const [first, ...others] = finding.seen;
  const more = others.length ? ` (and ${count(others.length, "other", "others")})` : "";
  setText(node.querySelector(".where"), textOf(first) + more);
  const lines = finding.seen.slice(0, MOST).map(textOf);
  if (finding.seen.length > MOST) lines.push(`and ${finding.seen.length - MOST} more`);
  reconcile(
    node.querySelector(".seen"),
    lines.entries(),
    ([place]) => place,
    () => element("li"),
    (line, [, text]) => setText(line, text),
  );
}

function textOf(seen) {
  return seen.subject ? `${seen.subject}: ${seen.text}` : seen.text;
}

// Names stand between backquotes.
function prose(text) {
  return text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
}
