// Settings: appearance, the key, where things are, and what the doctor says.

import { call } from "./api.js";
import { $, button, el, fault } from "./dom.js";
import { bytes, span } from "./format.js";
import { forgetKey, hasKey } from "./key.js";
import { machine } from "./machine.js";
import { forGood } from "./store.js";

const THEME = "diptych-theme";
const MARKS = { ok: "✓", warn: "!", fail: "✗" };

function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function applyTheme() {
  apply(forGood.get(THEME) ?? "auto");
}

export class SettingsView {
  constructor() {
    const chosen = forGood.get(THEME) ?? "auto";
    for (const input of document.querySelectorAll('[name="theme"]')) {
      input.checked = input.value === chosen;
      input.addEventListener("change", () => {
        forGood.set(THEME, input.value);
        apply(input.value);
      });
    }
    $("examine").addEventListener("click", () => this.#examine());
  }

  async show() {
    try {
      const found = await call("settings");
      $("settings-places").replaceChildren(...this.#limits(found), ...found.places.flatMap(({ name, path, exists }) => row(name, exists ? path : `${path} (does not exist yet)`)));
      $("settings-key").replaceChildren(...this.#key(found.keys));
    } catch (error) {
      $("settings-places").replaceChildren(el("dd", {}, fault(error.message)));
    }
  }

  #limits(found) {
    const keep = found.keep_alive < 0 ? "until its memory is needed" : `for ${span(found.keep_alive)} after its last request`;
    return [
      ...row("Memory for models", `${bytes(found.budget)} (${found.budget_source})`),
      ...row("A model stays loaded", keep),
      ...row("Pictures are kept", found.gallery ? "by the gateway, for every browser" : "in this browser only"),
    ];
  }

  #key(needed) {
    if (!needed) return [el("p", { class: "hint" }, "This gateway needs no key.")];
    if (!hasKey()) return [button("Enter the key", null, () => machine.look())];
    const another = () => {
      forgetKey();
      machine.look().then(() => this.show());
    };
    return [el("p", { class: "hint" }, "The key is kept until you close this tab."), button("Enter another key", null, another)];
  }

  async #examine() {
    const root = $("doctor");
    $("examine").disabled = true;
    root.replaceChildren(el("p", { class: "hint" }, "Examining this machine; this takes up to a minute …"));
    try {
      const { findings, seconds } = await call("settings/doctor", { method: "POST" });
      root.replaceChildren(...sections(findings), el("p", { class: "hint" }, `It took ${span(seconds)}.`));
    } catch (error) {
      root.replaceChildren(fault(error.message));
    }
    $("examine").disabled = false;
  }
}

const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

function sections(findings) {
  const names = [...new Set(findings.map((one) => one.section))];
  return names.map((section) => {
    const rows = findings.filter((one) => one.section === section).map(({ name, status, detail, advice }) =>
      el("li", { class: `finding ${status}` }, el("b", { "aria-label": status, role: "img" }, MARKS[status] ?? "?"), el("div", {}, el("p", {}, `${name}: ${detail}`), advice && el("p", { class: "hint" }, advice))),
    );
    return el("section", {}, el("h3", {}, section), el("ul", {}, rows));
  });
}
