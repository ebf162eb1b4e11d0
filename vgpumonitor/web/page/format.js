// Values as people read them. The same as vgpumonitor/formatting.py; a test compares the two.

export const NONE = "–";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function size(count) {
  if (count === null) return NONE;
  if (count < 1024) return `${count} B`;
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  const decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  const shift = 10 ** decimals;
  return `${(Math.floor(value * shift + 0.5) / shift).toFixed(decimals)} ${UNITS[unit]}`;
}

export function percent(value) {
  return value === null ? NONE : `${Math.floor(value + 0.5)}%`;
}

export function ago(seconds) {
  if (seconds === null) return NONE;
  if (seconds < 1) return "now";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

export function shortUuid(uuid) {
  const dash = uuid.indexOf("-");
  return dash > 0 ? uuid.slice(0, dash + 9) : uuid;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

export function count(number, singular, plural) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}
