// A <select> of the models for one purpose; the choice is remembered.

import { el } from "./dom.js";
import { can, machine } from "./machine.js";
import { forGood } from "./store.js";

export class Choice extends EventTarget {
  constructor(select, what) {
    super();
    this.select = select;
    this.what = what;
    this.place = `diptych-${what}-model`;
    select.addEventListener("change", () => {
      forGood.set(this.place, select.value);
      this.dispatchEvent(new Event("change"));
    });
    machine.addEventListener("change", () => this.show());
    this.show();
  }

  get models() {
    return machine.models.filter((model) => can(model, this.what));
  }

  get model() {
    return this.models.find((model) => model.name === this.select.value) ?? null;
  }

  choose(name) {
    if (this.models.some((model) => model.name === name)) {
      this.select.value = name;
      this.select.dispatchEvent(new Event("change"));
    }
  }

  show() {
    const names = this.models.map((model) => model.name);
    const shown = Array.from(this.select.options, (option) => option.value).filter(Boolean);
    if (names.length && names.join("\n") === shown.join("\n")) return;
    const chosen = this.select.value || forGood.get(this.place);
    const none = machine.known ? "none on this machine" : "…";
    const options = names.length ? names.map((name) => el("option", { value: name }, name)) : [el("option", { value: "" }, none)];
    this.select.replaceChildren(...options);
    // A loaded model answers at once.
    const best = this.models.find((model) => model.loaded)?.name ?? names[0] ?? "";
    this.select.value = names.includes(chosen) ? chosen : best;
    this.dispatchEvent(new Event("change"));
  }
}
