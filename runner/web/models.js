// The models on this machine: what they make, their size, whether they are loaded.

import { button, el, fault } from "./dom.js";
import { bytes, plural, span } from "./format.js";
import { can, machine } from "./machine.js";

const MAKES = { image: "pictures", text: "text" };
const faults = new Map();
const loading = new Set();

export function showModels(root, go, drawing, writing) {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = root.querySelector(".welcome")?.open;
  const use = (model) => {
    const draws = can(model, "draw");
    (draws ? drawing : writing).choose(model.name);
    go(draws ? "draw" : "chat");
  };
  const rows = el("ul", { class: "rows" }, machine.models.map((model) => card(model, use)));
  root.replaceChildren(memory(), rows, more(open));
  if (focused) root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function memory() {
  if (!machine.budget) return machine.fault ? "" : el("p", { class: "hint" }, "Loading …");
  const said = `${bytes(machine.memory)} of ${bytes(machine.budget)} of memory used`;
  return el("div", { class: "memory" },
    el("meter", { min: 0, max: machine.budget, value: machine.memory, "aria-label": said }),
    el("p", { class: "hint" }, said),
  );
}

// How to get a model; open where there is none but the sample.
function more(open) {
  if (!machine.known) return "";
  const real = machine.models.some((model) => !model.sample);
  const said = !machine.models.length ? "There are no models on this machine yet." : real ? "" : "These two are Diptych’s small sample models, which only know coloured shapes.";
  return el("details", { class: "more welcome", open: open ?? !real },
    el("summary", { "data-key": "more" }, "Get more models"),
    said && el("p", {}, said),
    el("p", { class: "hint" }, "Download models on the command line, for example a language model and a picture model:"),
    el("pre", { tabindex: 0, role: "region", "aria-label": "Commands" }, el("code", {}, "diptych pull Qwen/Qwen3-0.6B\ndiptych pull black-forest-labs/FLUX.2-klein-4B")),
    el("p", { class: "hint" }, "They appear here when the download is complete."),
  );
}

function card(model, use) {
  const badge = el("span", { class: `badge ${model.mode ?? "unknown"}` }, makes(model));
  const facts = [model.type, `${bytes(model.bytes)} on disk`].filter(Boolean).join(" · ");
  const about = el("div", {},
    el("p", { class: "name" }, model.name, " ", badge),
    el("p", { class: "hint" }, facts),
    !model.fault && !machine.fault && el("p", { class: "hint" }, el("span", { class: "dot" }), state(model)),
    model.fault && el("p", { class: "hint broken" }, `Cannot be run: ${model.fault}`),
    faults.has(model.name) && fault(faults.get(model.name)),
  );
  return el("li", { class: `row-item ${model.loaded ? "loaded" : ""}` }, about, model.fault ? null : tools(model, use));
}

function makes(model) {
  if (model.capabilities.includes("rerank")) return "reranking";
  if (model.capabilities.includes("embedding")) return "embeddings";
  return MAKES[model.mode] ?? "unknown";
}

function state({ loaded }) {
  if (!loaded) return "not loaded";
  if (loaded.state === "loading") return `loading, ${Math.round((loaded.progress ?? 0) * 100)}%`;
  if (loaded.state === "ending") return "unloading";
  const until = loaded.until ? `, unloads in ${span(Math.max(0, (Date.parse(loaded.until) - Date.now()) / 1000))}` : "";
  const busy = loaded.active ? `, ${plural(loaded.active, "request")} running` : until;
  return `loaded, ${bytes(loaded.memory)}${busy}`;
}

function tools(model, use) {
  const draws = can(model, "draw");
  const usable = draws || can(model, "write");
  const label = draws ? "Draw" : "Chat";
  const named = (what) => ({ "data-key": `${what} ${model.name}`, "aria-label": `${what} ${model.name}` });
  const change = model.loaded
    ? button("Unload", null, () => attempt(model, () => machine.unload(model.name)), named("Unload"))
    : button("Load", null, () => attempt(model, () => machine.load(model.name)), { ...named("Load"), disabled: loading.has(model.name) });
  const going = usable ? button(label, draws ? "brush" : "chat", () => use(model), { "aria-label": `${label} with ${model.name}`, "data-key": `use ${model.name}` }) : null;
  return el("div", { class: "tools" }, change, going);
}

async function attempt(model, what) {
  faults.delete(model.name);
  loading.add(model.name);
  try {
    await what();
  } catch (error) {
    faults.set(model.name, error.message);
  }
  loading.delete(model.name);
  machine.ask();
}
