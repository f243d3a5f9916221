// Elements. Text is always set as text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

// h("a", {href: "#/", class: "x", onclick: f, "aria-label": "..."}, "text", element, [more], null)
export function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

// The same of SVG.
export function s(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

// Puts `children` in the place of all that an element has.
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name === "value" && "value" in element) element.value = value;
  else if (["checked", "disabled", "hidden", "selected", "open", "readOnly", "indeterminate"].includes(name)) element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
