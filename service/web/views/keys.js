// Keys, for those who may make them: a new one is shown once, here and nowhere else.

import { get, post, remove } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, moment } from "../format.js";
import { say } from "../notes.js";

const SCOPES = { read: "look", submit: "make and steer jobs", admin: "everything" };

export async function show(page, params, signal) {
  document.title = "Keys – Finebits";
  const list = h("section", { class: "card", "aria-label": "Keys" });
  const look = async () => {
    const { data } = await get("/keys", { signal });
    fill(list, data.length ? table(data, look) : h("p", { class: "empty" }, "No key was made yet. Once there is one, everybody needs one."));
  };
  const shown = h("div", { role: "status" });
  fill(page, h("h1", {}, "Keys"), newKey(shown, look), shown, list);
  await look();
}

function newKey(shown, look) {
  const owner = h("input", { id: "owner", required: true, autocomplete: "off", placeholder: "ann" });
  const name = h("input", { id: "key-name", autocomplete: "off", placeholder: "notebook" });
  const days = h("input", { id: "days", inputmode: "decimal", placeholder: "never" });
  const boxes = Object.entries(SCOPES).map(([scope, what]) => {
    const box = h("input", { type: "checkbox", id: `scope-${scope}`, value: scope, checked: scope !== "admin" });
    return { box, element: h("div", { class: "row" }, box, h("label", { for: box.id }, `${scope}: ${what}`)) };
  });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const field = (input, label) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
  const make = async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    const wanted = { owner: owner.value.trim(), scopes: boxes.filter(({ box }) => box.checked).map(({ box }) => box.value) };
    if (name.value.trim()) wanted.name = name.value.trim();
    if (days.value.trim()) wanted.expires_in_days = Number(days.value) || days.value;
    try {
      const { key } = await post("/keys", wanted);
      fill(shown, h("div", { class: "notice stack" }, h("p", {}, "The key, shown this once: keep it now."), h("pre", { tabindex: 0 }, key)));
      await look();
    } catch (problem) {
      wrong.textContent = problem.message;
    }
  };
  return h(
    "form",
    { class: "card", "aria-label": "A new key", onsubmit: make },
    h("h2", {}, "A new key"),
    h("div", { class: "fields" }, field(owner, "Owner"), field(name, "Name"), field(days, "Expires in days")),
    h("fieldset", { class: "row" }, h("legend", { class: "label" }, "It may"), boxes.map(({ element }) => element)),
    wrong,
    h("div", {}, h("button", { class: "primary" }, "Make the key")),
  );
}

function table(keys, look) {
  const head = ["Key", "Owner", "It may", "Name", "Last used", "Expires", ""].map((name) => h("th", { scope: "col" }, name || h("span", { class: "visually-hidden" }, "Revoke")));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All keys" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, keys.map((key) => row(key, look)))));
}

function row(key, look) {
  const revoke = async () => {
    if (!confirm(`Revoke ${key.id} of ${key.owner}, for good?`)) return;
    await remove(`/keys/${key.id}`).then(look, (problem) => say(problem.message));
  };
  const end = key.revoked_at ? h("span", { class: "quiet" }, `revoked ${moment(key.revoked_at)}`) : h("button", { type: "button", class: "small danger", onclick: revoke, "aria-label": `Revoke ${key.id}` }, "Revoke");
  const cells = [h("code", {}, key.id), key.owner, key.scopes.join(", "), key.name ?? "–", key.last_used_at ? ago(key.last_used_at) : "never", key.expires_at ? moment(key.expires_at) : "never", end];
  return h("tr", {}, cells.map((cell) => h("td", {}, cell)));
}
