// What happened to the job, as it happens, the newest first.

import { fill, h } from "../dom.js";
import { moment } from "../format.js";

const LOUD = { alert: "alert", failed: "alert", lease_lost: "alert" };

export async function side(place) {
  const list = h("ol", { class: "events", reversed: true });
  fill(place, list);
  return {
    event(event) {
      const data = Object.keys(event.data).length
        ? h("details", {}, h("summary", { class: "small quiet" }, "data"), h("pre", { tabindex: "0" }, JSON.stringify(event.data, null, 2)))
        : null;
      list.prepend(
        h(
          "li",
          {},
          h("time", { class: "quiet small nowrap", datetime: event.at }, moment(event.at)),
          h("code", { class: LOUD[event.kind] ?? null }, event.kind),
          h("div", {}, event.message, data),
        ),
      );
    },
  };
}
