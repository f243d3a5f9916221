import { fill, h } from "../dom.js";

export async function show(page, params, signal) {
  fill(page, h("h1", {}, "workers"));
}
