// The colours of lines: those of the page's theme, read from style.css, and for what is saved always the light ones.

export const LIGHT = {
  lines: ["#0b6478", "#b3541e", "#5b4bb5", "#3f7d20", "#a8327d", "#6b5b0f", "#2564b8", "#8a3b3b"],
  ink: "#17212b",
  quiet: "#56636f",
  grid: "#d6dce1",
  ground: "#ffffff",
  alert: "#a4232c",
};

export const line = (colours, index) => colours.lines[index % colours.lines.length];

export function present() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const lines = LIGHT.lines.map((_, index) => of(`series-${index + 1}`));
  return { lines, ink: of("text"), quiet: of("quiet"), grid: of("line"), ground: of("surface"), alert: of("bad") };
}

// Calls `draw` whenever the theme changes, by the page's switch or the system's, until the signal aborts.
export function onTheme(draw, signal) {
  addEventListener("finebits:theme", draw, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
}
