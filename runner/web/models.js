// The models on this machine: what they make, their size, whether they are loaded.

import { call } from "./api.js";
import { button, el, fault } from "./dom.js";
import { bytes, plural, short, span } from "./format.js";
import { can, machine } from "./machine.js";

const MAKES = { image: "pictures", text: "text" };
const SOURCES = { ollama: "Ollama’s store", folder: "a folder", hub: "Hugging Face" };
const faults = new Map();
const loading = new Set();
const doomed = new Set(); // those whose deletion was asked for, and not yet confirmed

export function showModels(root, go, drawing, writing) {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const use = (model) => {
    const draws = can(model, "draw");
    (draws ? drawing : writing).choose(model.name);
    go(draws ? "draw" : "chat");
  };
  const isPart = (model) => model.fault?.startsWith("not complete");
  const cards = (models) => el("ul", { class: "rows" }, models.map((model) => card(model, use)));
  const parts = machine.models.filter(isPart);
  const opened = root.querySelector(".incomplete")?.open;
  const rest = parts.length > 0 && el("details", { class: "more incomplete", open: opened }, el("summary", { "data-key": "incomplete" }, `Not complete: ${parts.length}`), cards(parts));
  root.replaceChildren(memory(), cards(machine.models.filter((model) => !isPart(model))), rest || "", advice());
  if (focused) root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function memory() {
  if (!machine.budget) return machine.fault ? "" : el("p", { class: "hint" }, "Loading …");
  const said = `${bytes(machine.memory)} of ${bytes(machine.budget)} of memory used`;
  const parts = machine.loaded.map((model) => `${short(model.name)} ${bytes(model.memory)}`);
  return el("div", { class: "memory" },
    el("meter", { min: 0, max: machine.budget, value: machine.memory, "aria-label": said }),
    el("p", { class: "hint" }, [said, ...parts].join(" · ")),
  );
}

// What to do where there is no model but the sample.
function advice() {
  if (!machine.known || machine.models.some((model) => !model.sample)) return "";
  const said = machine.models.length ? "These two are Diptych’s small sample models, which only know coloured shapes." : "There are no models on this machine yet.";
  return el("p", { class: "hint" }, `${said} Search for others below.`);
}

function card(model, use) {
  const badge = el("span", { class: `badge ${model.mode ?? "unknown"}` }, makes(model));
  const facts = [model.type, `${bytes(model.bytes)} on disk`, SOURCES[model.source]].filter(Boolean).join(" · ");
  const about = el("div", {},
    el("p", { class: "name" }, model.name, " ", badge),
    el("p", { class: "hint" }, facts),
    !model.fault && !machine.fault && el("p", { class: "hint" }, el("span", { class: "dot" }), state(model)),
    model.fault && el("p", { class: "hint broken" }, `Cannot be run: ${model.fault}`),
    faults.has(model.name) && fault(faults.get(model.name)),
  );
  const right = model.fault ? el("div", { class: "tools" }, removal(model, (what) => ({ "data-key": `${what} ${model.name}`, "aria-label": `${what} ${model.name}` }))) : tools(model, use);
  return el("li", { class: `row-item ${model.loaded ? "loaded" : ""}` }, about, right);
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
  if (loaded.keep_alive < 0 && !loaded.active) return `loaded, ${bytes(loaded.memory)}, stays until its memory is needed`;
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
  const ready = model.loaded?.state === "ready";
  const keeps = ready && model.loaded.keep_alive >= 0 && button("Keep", "pin", () => attempt(model, () => machine.load(model.name, -1)), { ...named("Keep"), title: "Keep it loaded until its memory is needed" });
  return el("div", { class: "tools" }, change, keeps, going, removal(model, named));
}

// Asks before it deletes: gigabytes are not undone. Folders are the user's own.
function removal(model, named) {
  if (model.sample || model.source === "folder") return null;
  if (!doomed.has(model.name)) return button("Delete", "trash", () => ask(model, true), { ...named("Delete"), bare: true });
  const away = async () => {
    ask(model, false);
    await attempt(model, () => call("api/delete", { method: "DELETE", body: { model: model.model } }));
    machine.look();
  };
  return [
    button(`Delete ${bytes(model.bytes)} for good`, "trash", away, named("Really delete")),
    button("Keep it", null, () => ask(model, false), named("Do not delete")),
  ];
}

function ask(model, whether) {
  if (whether) doomed.add(model.name);
  else doomed.delete(model.name);
  machine.dispatchEvent(new Event("change"));
  document.querySelector(`[data-key="${CSS.escape(`${whether ? "Do not delete" : "Delete"} ${model.name}`)}"]`)?.focus();
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
