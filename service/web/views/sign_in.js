// A key for a cookie: the key is sent once and kept nowhere in the page.

import { post } from "../api.js";
import { fill, h } from "../dom.js";
import { go } from "../route.js";

export async function show(page, { query }) {
  document.title = "Sign in – Finebits";
  const field = h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false", "aria-describedby": "key-wrong" });
  const wrong = h("p", { id: "key-wrong", class: "wrong", role: "alert" });
  const form = h(
    "form",
    { class: "narrow", onsubmit: (event) => (event.preventDefault(), signIn(field, wrong, query.get("next"))) },
    h("h1", {}, "Sign in"),
    h("p", { class: "quiet" }, "With a key of ", h("code", {}, "finebits keys create"), ", or the operator's. It is kept as a cookie that scripts cannot read, and ends with the session."),
    h("label", { for: "key" }, "Key"),
    field,
    wrong,
    h("button", { class: "primary" }, "Sign in"),
  );
  fill(page, form);
  field.focus();
}

async function signIn(field, wrong, next) {
  wrong.textContent = "";
  try {
    await post("/session", { key: field.value.trim() });
  } catch (problem) {
    wrong.textContent = problem.message;
    field.setAttribute("aria-invalid", "true");
    field.focus();
    return;
  }
  dispatchEvent(new CustomEvent("finebits:signed-in"));
  const [path, asked] = (next && next.startsWith("/") ? next : "/").split(/\?(.*)/s);
  go(path, Object.fromEntries(new URLSearchParams(asked ?? "")));
}
