// Models of the hub: searched, examined, downloaded.

import { call } from "./api.js";
import { $, announce, button, el, fault } from "./dom.js";
import { bytes } from "./format.js";
import { machine } from "./machine.js";

const FITS = { yes: "fits", "in turn": "fits in turn", quantized: "fits quantized", no: "does not fit" };
const TASKS = { "text-generation": "text", "text-to-image": "pictures", "image-text-to-text": "text, sees" };
const POLL_MS = 800;
const UNDER_WAY = ["looking", "downloading"];

export class Hub {
  #turn = 0;
  #timer = 0;
  #faults = new Map(); // of downloads, by model
  #arrived = new Set();

  constructor() {
    $("hub-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search();
    });
  }

  // What is being downloaded, also by other pages.
  look() {
    this.#poll();
  }

  async #search() {
    const turn = ++this.#turn;
    const query = new URLSearchParams({ search: $("hub-search").value.trim() });
    if ($("hub-kind").value) query.set("kind", $("hub-kind").value);
    $("hub-found").replaceChildren(el("p", { class: "hint" }, "Searching …"));
    try {
      const { models } = await call(`hub/search?${query}`);
      if (turn !== this.#turn) return;
      const rows = models.map((model) => this.#result(model));
      $("hub-found").replaceChildren(rows.length ? el("ul", { class: "rows" }, rows) : el("p", { class: "hint" }, "Nothing was found."));
      announce(`${models.length} models found`);
    } catch (error) {
      if (turn === this.#turn) $("hub-found").replaceChildren(fault(error.message));
    }
  }

  #result(model) {
    const facts = [
      TASKS[model.task] ?? model.task,
      model.parameters && `${count(model.parameters)} parameters`,
      model.gguf && "GGUF",
      model.license && `licence ${model.license}`,
      model.gated && "its terms must be accepted on the hub first",
      `${count(model.downloads)} downloads`,
    ].filter(Boolean);
    const about = el("div", { class: "examined" });
    const more = el("details", { class: "more" }, el("summary", { "aria-label": `Does ${model.name} fit?` }, "Size, and whether it fits"), about);
    more.addEventListener("toggle", () => more.open && !about.children.length && this.#examine(model.name, about));
    const text = el("div", {}, el("p", { class: "name" }, model.name), el("p", { class: "hint" }, facts.join(" · ")), more);
    return el("li", { class: "row-item" }, text);
  }

  async #examine(name, about) {
    about.replaceChildren(el("p", { class: "hint" }, "Reading its files …"));
    try {
      const found = await call(`hub/model?${new URLSearchParams({ model: name })}`);
      about.replaceChildren(...this.#examined(found));
    } catch (error) {
      about.replaceChildren(fault(error.message, button("Try again", "again", () => this.#examine(name, about))));
    }
  }

  #examined(found) {
    const here = machine.models.some((model) => model.names.includes(found.name) && !model.fault);
    const badge = el("span", { class: `badge fit-${found.fits.replace(" ", "-")}` }, found.fault ? "cannot be run" : FITS[found.fits]);
    const said = el("p", {}, badge, " ", `${bytes(found.bytes)} to download. ${found.why}`);
    if (found.fault) return [said];
    if (here) return [said, el("p", { class: "hint" }, "It is on this machine.")];
    const get = (name, label, size) => button(label, "download", () => this.#start(name), { "aria-label": `Download ${name}, ${bytes(size)}` });
    if (!found.choices.length) return [said, el("div", { class: "tools" }, get(found.name, "Download", found.bytes))];
    const choices = found.choices.map(({ name, quantization, bytes: size }) => get(name, `${quantization}, ${bytes(size)}`, size));
    return [said, el("p", { class: "hint" }, "Quantizations:"), el("div", { class: "tools" }, choices)];
  }

  #start(model) {
    this.#change("hub/downloads", model);
    $("downloads").scrollIntoView({ block: "nearest" });
  }

  async #change(path, model) {
    this.#faults.delete(model);
    try {
      await call(path, { body: { model } });
    } catch (error) {
      this.#faults.set(model, error.message);
      this.#show([{ model, state: "failed", done: 0, total: 0, error: error.message }]);
    }
    this.#poll();
  }

  // While there is something to watch.
  async #poll() {
    clearTimeout(this.#timer);
    let downloads = [];
    try {
      downloads = (await call("hub/downloads", { ask: false })).downloads;
    } catch {
      return; // the notice says why; the next action asks again
    }
    if (!this.#faults.size || downloads.length) this.#show(downloads);
    for (const { model, state } of downloads) {
      if (state === "done" && !this.#arrived.has(model)) {
        this.#arrived.add(model);
        machine.look({ ask: false });
      }
    }
    if (downloads.some((one) => UNDER_WAY.includes(one.state))) this.#timer = setTimeout(() => this.#poll(), document.hidden ? 10 * POLL_MS : POLL_MS);
  }

  #show(downloads) {
    const root = $("downloads");
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    root.hidden = !downloads.length;
    root.replaceChildren(el("h2", {}, "Downloads"), el("ul", { class: "rows" }, downloads.map((one) => this.#row(one))));
    if (focused) root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(one) {
    const act = (label, name, path) => button(label, name, () => this.#change(`hub/downloads${path}`, one.model), { "data-key": `${label} ${one.model}`, "aria-label": `${label} the download of ${one.model}` });
    const tools = {
      looking: [act("Cancel", "close", "/cancel")],
      downloading: [act("Pause", "pause", "/pause"), act("Cancel", "close", "/cancel")],
      paused: [act("Resume", "download", ""), act("Cancel", "close", "/cancel")],
      failed: [act("Try again", "again", ""), act("Cancel", "close", "/cancel")],
    }[one.state] ?? [];
    const bar = one.total > 0 && one.state !== "done" && el("progress", { max: one.total, value: one.done, "aria-label": `Download of ${one.model}` });
    const about = el("div", {}, el("p", { class: "name" }, one.model), el("p", { class: "hint" }, progress(one)), bar, one.error && fault(one.error));
    return el("li", { class: "row-item" }, about, el("div", { class: "tools" }, tools));
  }
}

function progress({ state, done, total, rate }) {
  if (state === "looking") return "Looking at its files …";
  if (state === "done") return `${bytes(total)}, complete`;
  const part = total ? `${bytes(done)} of ${bytes(total)}` : "";
  if (state === "downloading") return rate > 0 ? `${part}, ${bytes(rate)}/s` : part;
  return [state, part].filter(Boolean).join(", ");
}

function count(number) {
  for (const [size, letter] of [[1e9, " B"], [1e6, " M"], [1e3, " k"]]) {
    if (number >= size) return `${(number / size).toFixed(number < 10 * size ? 1 : 0)}${letter}`;
  }
  return String(number);
}
