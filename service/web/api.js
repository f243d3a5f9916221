// The service's API, as this page's cookie may use it. What goes wrong is a Problem, with the service's own words.

import { OWN, Problem, problemOf } from "./problem.js";

export { Problem } from "./problem.js";
export { stream } from "./stream.js";

// Every call takes {signal, query, headers, raw}; `raw` gives the Response itself.
export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body, options) => call("POST", path, body, options);
export const patch = (path, body, options) => call("PATCH", path, body, options);
export const remove = (path, options) => call("DELETE", path, undefined, options);

// `path` with {name: value} or {name: [value, value]} as its query; what is null or empty is left out.
export function address(path, query = {}) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") asked.append(name, one);
  }
  return asked.size ? `${path}?${asked}` : path;
}

async function call(method, path, body, { signal, query, headers, raw } = {}) {
  const asked = { method, signal, headers: { Accept: "application/json", ...OWN, ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    asked.body = typeof body === "string" ? body : JSON.stringify(body);
    asked.headers["Content-Type"] ??= "application/json";
  }
  const response = await reached(address(path, query), asked);
  if (!response.ok) throw await problemOf(response);
  if (raw) return response;
  return response.status === 204 ? null : response.json();
}

async function reached(path, asked) {
  try {
    return await fetch(path, asked);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The service cannot be reached.", code: "unreachable" });
  }
}
