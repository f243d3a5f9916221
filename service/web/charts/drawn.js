// A scene as a text of SVG, as elements of the page, and on a canvas.

import { s } from "../dom.js";
import { FONT } from "./scene.js";

export function svgText({ width, height, shapes, title }) {
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  const inner = shapes.map((shape) => tagText(...tagOf(shape))).join("\n");
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="${FONT}" role="img">\n<title>${escaped(title)}</title>\n${inner}\n</svg>\n`;
}

export function svgElement({ width, height, shapes }) {
  const made = shapes.map((shape) => {
    const [tag, props, text] = tagOf(shape);
    return s(tag, { ...props, ...(shape.of === undefined ? {} : { "data-of": shape.of }) }, text);
  });
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "font-family": FONT, "aria-hidden": "true" }, made);
}

export function onCanvas({ width, height, shapes }, scale = 2) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  for (const shape of shapes) (pen.save(), DRAW[shape.kind](pen, shape), pen.restore());
  return canvas;
}

function tagOf(shape) {
  if (shape.kind === "text") {
    const turned = shape.turned ? { transform: `rotate(-90 ${shape.x} ${shape.y})` } : {};
    const props = {
      x: shape.x,
      y: shape.y,
      "font-size": shape.size,
      fill: shape.fill,
      "text-anchor": shape.anchor ?? "start",
      ...turned,
    };
    return ["text", shape.bold ? { ...props, "font-weight": 600 } : props, shape.text];
  }
  const paint = {
    fill: shape.fill ?? "none",
    stroke: shape.stroke,
    "stroke-width": shape.stroke ? (shape.width ?? 1.5) : undefined,
    opacity: shape.opacity,
  };
  if (shape.kind === "point") return ["circle", { cx: shape.x, cy: shape.y, r: shape.r, ...paint }, null];
  return ["path", { d: shape.d, ...paint, "stroke-dasharray": shape.dash, "stroke-linejoin": "round" }, null];
}

function tagText(tag, props, text) {
  const given = Object.entries(props).filter(([, value]) => value !== undefined);
  const attributes = given.map(([name, value]) => ` ${name}="${escaped(String(value))}"`).join("");
  return text === null ? `<${tag}${attributes}/>` : `<${tag}${attributes}>${escaped(text)}</${tag}>`;
}

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

const DRAW = {
  path(pen, { d, fill, stroke, width, dash, opacity = 1 }) {
    const path = new Path2D(d);
    pen.globalAlpha = opacity;
    pen.lineJoin = "round";
    if (fill && fill !== "none") ((pen.fillStyle = fill), pen.fill(path));
    if (!stroke) return;
    if (dash) pen.setLineDash(dash.split(" ").map(Number));
    [pen.strokeStyle, pen.lineWidth] = [stroke, width ?? 1.5];
    pen.stroke(path);
  },
  point(pen, { x, y, r, ...paint }) {
    DRAW.path(pen, { d: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`, ...paint });
  },
  text(pen, { text, x, y, anchor = "start", size, fill, turned, bold }) {
    pen.translate(x, y);
    if (turned) pen.rotate(-Math.PI / 2);
    pen.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
    pen.textAlign = anchor === "middle" ? "center" : anchor;
    pen.fillStyle = fill;
    pen.fillText(text, 0, 0);
  },
};
