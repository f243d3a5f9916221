// Numbers, times and names as people read them.

const MINUS = "−";

// 1234567.891 -> "1,234,567.89": as many digits as matter, no exponent unless it must be.
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e12)) return value.toExponential(digits - 1).replace("-", MINUS);
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", MINUS);
  const decimals = Math.max(0, digits - Math.max(1, Math.ceil(Math.log10(size || 1))));
  return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", MINUS);
}

// With its interval: "2.031 ± 0.010", by the standard error's first two digits; or "2.031 [2.01, 2.05]" of an interval alone.
export function estimate(value, standardError, interval) {
  if (value === null || value === undefined) return "–";
  if (standardError > 1e-9 * Math.abs(value)) {
    const decimals = Math.min(10, Math.max(0, 1 - Math.floor(Math.log10(standardError))));
    return `${fixed(value, decimals)} ± ${fixed(standardError, decimals)}`;
  }
  return interval ? `${number(value)} [${number(interval[0])}, ${number(interval[1])}]` : number(value);
}

export const bits = (value, unit = "bits") => (value === null || value === undefined ? "–" : `${number(value)} ${unit}`);

export const signed = (value, digits) => (value > 0 ? `+${number(value, digits)}` : number(value, digits));

export const percent = (share, decimals = 0) => `${fixed(100 * share, decimals)} %`;

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

// 1536 -> "1.5 KiB"
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

// 3725 -> "1 h 2 min"
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes < 10 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${minutes} min`;
}

// An ISO time as a moment here: "14:03", with its day where it was not today.
export function moment(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? time : `${at.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

export const ago = (iso, now = Date.now()) => (iso ? `${duration(Math.max(0, (now - new Date(iso)) / 1000))} ago` : "–");

export const secondsBetween = (from, to) => (new Date(to ?? Date.now()) - new Date(from)) / 1000;

function fixed(value, decimals) {
  return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", MINUS);
}
