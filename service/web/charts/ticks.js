// Where an axis has its ticks, and what stands at them.

// Round numbers (1, 2 or 5 times a power of ten) between two ends, about as many as wanted.
export function ticks(low, high, wanted = 6, isLog = false) {
  if (isLog) return powers(low, high);
  const step = round((high - low) / wanted);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) found.push(index * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

function round(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  const share = step / power;
  return power * (share > 5 ? 10 : share > 2 ? 5 : share > 1 ? 2 : 1);
}

function powers(low, high) {
  const found = [];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.ceil(Math.log10(high)); exponent++) {
    for (const times of [1, 2, 5]) found.push(times * 10 ** exponent);
  }
  const within = found.filter((value) => value >= low && value <= high);
  return within.length > 8 ? within.filter((value) => Number.isInteger(Math.log10(value))) : within;
}

// All with as many decimals as tell neighbours apart: 0.10, 0.15, 0.20.
export function labels(values) {
  const gap =
    values.length > 1
      ? Math.min(...values.slice(1).map((value, index) => Math.abs(value - values[index])))
      : Math.abs(values[0] ?? 1);
  const decimals =
    [0, 1, 2, 3, 4, 5, 6, 7, 8].find(
      (many) => Math.abs(gap * 10 ** many - Math.round(gap * 10 ** many)) < 1e-6 * gap * 10 ** many,
    ) ?? 8;
  return values.map((value) => label(value, decimals));
}

function label(value, decimals) {
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(0).replace("-", "−");
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`.replace("-", "−");
  const text = value.toLocaleString("en", {
    minimumFractionDigits: Math.min(decimals, 8),
    maximumFractionDigits: Math.max(decimals, 0),
  });
  return text.replace("-", "−");
}
