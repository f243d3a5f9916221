// Every view has an address that can be shared: `#/jobs/job-1?tab=log`. What stands behind the # never reaches the service.

import { Problem } from "./api.js";
import { fill, h } from "./dom.js";

// pattern -> the module views/NAME.js, which has `async function show(page, params, signal)`:
// `page` is the empty element to fill, `params` has the pattern's names and `query` (URLSearchParams), and `signal` aborts when
// the view is left. A view whose address changes in its query alone is shown anew unless it exports `changed(page, params)`.
export const VIEWS = {
  "/": "overview",
  "/jobs": "jobs",
  "/jobs/:id": "job",
  "/submit": "submit",
  "/compare": "compare",
  "/measures": "measures",
  "/measures/:name": "measure",
  "/workers": "workers",
  "/keys": "keys",
  "/sign-in": "sign_in",
};

const PATTERNS = Object.entries(VIEWS).map(([pattern, name]) => [new RegExp(`^${pattern.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`), name]);

let leaving = new AbortController();

// The address of a view, for href: to("/jobs", {state: "running"}).
export function to(path, query = {}) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") asked.append(name, one);
  }
  return `#${path}${asked.size ? `?${asked}` : ""}`;
}

export const go = (path, query) => (location.hash = to(path, query));

// Changes the query of the address without showing the view anew: the view has shown it already.
export function note(query) {
  const [path] = place();
  history.replaceState(null, "", to(path, query));
}

// [path, query] of the address.
export function place() {
  const [path, query] = (location.hash.slice(1) || "/").split(/\?(.*)/s);
  return [path || "/", new URLSearchParams(query ?? "")];
}

// Shows the views in `main`, from now on.
export function start(main) {
  addEventListener("hashchange", () => showPlace(main, true));
  return showPlace(main, false);
}

export const again = () => dispatchEvent(new HashChangeEvent("hashchange"));

async function showPlace(main, isMove) {
  if (!location.hash.startsWith("#/") && location.hash) return; // the skip link, and whatever else leads within the page
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = place();
  const page = h("div", { class: "page" });
  const [name, params] = found(path);
  document.title = "Finebits";
  dispatchEvent(new CustomEvent("finebits:shown", { detail: { path, name } }));
  main.setAttribute("aria-busy", "true");
  try {
    const view = name ? await loaded(name) : { show: nothing };
    if (signal.aborted) return;
    fill(main, page);
    await view.show(page, { ...params, query }, signal);
  } catch (error) {
    if (signal.aborted) return;
    fill(main, page);
    fill(page, failed(error));
    if (!(error instanceof Problem)) console.error(error);
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
  if (isMove && !signal.aborted && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
  if (isMove && !signal.aborted) scrollTo(0, 0);
}

function loaded(name) {
  return import(`./views/${name}.js`).catch((error) => {
    if (navigator.onLine && !/fetch|load|import/i.test(error.message)) throw error;
    throw new Problem(0, { detail: "The service cannot be reached." });
  });
}

function found(path) {
  for (const [pattern, name] of PATTERNS) {
    const match = pattern.exec(path);
    if (match) return [name, Object.fromEntries(Object.entries(match.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]))];
  }
  return [null, {}];
}

function nothing(page) {
  fill(page, h("h1", {}, "Nothing is here"), h("p", {}, "There is no such page. ", h("a", { href: to("/") }, "To the overview"), "."));
}

function failed(error) {
  return h(
    "section",
    { class: "failure", role: "alert" },
    h("h1", {}, error.status === 404 ? "Nothing is here" : "This could not be shown"),
    h("p", {}, error.message),
    error.requestId ? h("p", { class: "quiet" }, `Request ${error.requestId}`) : null,
    h("p", {}, h("button", { type: "button", onclick: again }, "Try again")),
  );
}
