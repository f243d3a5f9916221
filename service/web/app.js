// The frame of the page: navigation, theme, who is signed in, keys of the keyboard. The views are in views/.

import { get, remove } from "./api.js";
import { fill, h } from "./dom.js";
import { place, start, to } from "./route.js";
import { shortcuts } from "./shortcuts.js";

const NAV = [
  ["/", "Overview"],
  ["/jobs", "Jobs"],
  ["/submit", "Submit"],
  ["/compare", "Compare"],
  ["/measures", "Measures"],
  ["/workers", "Workers"],
];

const ADMIN = [["/keys", "Keys"]];

let isAdmin = false;

const nav = document.getElementById("nav");
const tools = document.getElementById("tools");
const linkState = document.getElementById("link-state");
const broken = new Set(); // what of the page's connections is being made anew

addEventListener("finebits:shown", ({ detail }) => showNav(detail.path));
addEventListener("finebits:link", ({ detail }) => showLink(detail));
addEventListener("finebits:signed-out", () => {
  const [path] = place();
  if (path !== "/sign-in") location.hash = to("/sign-in", { next: location.hash.slice(1) });
});
addEventListener("finebits:signed-in", showTools);

shortcuts();
showTools();
start(document.getElementById("main"));

function showNav(path) {
  const links = [...NAV, ...(isAdmin ? ADMIN : [])].map(([where, label]) =>
    h("a", { href: to(where), "aria-current": isUnder(path, where) ? "page" : null }, label),
  );
  fill(nav, links);
  const present = nav.querySelector("[aria-current]")?.getBoundingClientRect();
  // not scrollIntoView, from which on the Tab key would begin
  if (present) nav.scrollLeft += Math.max(0, present.right - nav.getBoundingClientRect().right);
}

function isUnder(path, where) {
  return where === "/" ? path === "/" : path === where || path.startsWith(`${where}/`);
}

function showLink({ who, isBroken }) {
  if (isBroken) broken.add(who);
  else broken.delete(who);
  const says = broken.size ? "The connection broke. Reconnecting; nothing is lost." : "";
  if (linkState.textContent === says) return;
  linkState.hidden = !broken.size;
  linkState.textContent = says;
}

async function showTools() {
  const session = await get("/session").catch(() => null);
  isAdmin = session?.scopes?.includes("admin") ?? false;
  showNav(place()[0]);
  fill(tools, themeButton(), session?.signed_in ? signOutButton(session) : null);
}

function themeButton() {
  const button = h("button", { type: "button", class: "plain", id: "theme", onclick: () => (toggleTheme(), label()) });
  const label = () => {
    const other = isDark() ? "light" : "dark";
    button.textContent = isDark() ? "☀" : "☾";
    button.setAttribute("aria-label", `Change to the ${other} theme`);
    button.title = button.getAttribute("aria-label");
  };
  label();
  return button;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  const chosen = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // then it is chosen for this page alone
  }
  dispatchEvent(new CustomEvent("finebits:theme", { detail: { theme: chosen } }));
}

function signOutButton(session) {
  const out = async () => {
    await remove("/session").catch(() => null);
    location.hash = to("/sign-in");
    location.reload();
  };
  return h("button", { type: "button", class: "plain", title: `Signed in as ${session.owner}`, onclick: out }, "Sign out");
}
