// The state of the gateway: the models on this machine, and which of them are loaded.

import { call } from "./api.js";

const OFTEN = 1500;
const SELDOM = 8000;

class Machine extends EventTarget {
  models = []; // of the library, each with `loaded`: its entry among the loaded ones, or null
  loaded = [];
  budget = 0;
  memory = 0;
  waiting = 0;
  fault = null;
  known = false;
  watched = () => false; // whether a view shows the state: then it is polled more often
  browsed = () => false; // whether the list of models is shown, where new ones should appear
  #timer = 0;
  #looked = 0;

  // The gateway reads the library from disk, so it is requested only when the page opens and when it is shown.
  async look(options) {
    this.#looked = Date.now();
    try {
      const found = await call("library", options);
      // Models keep their state until the next answer.
      this.models = found.models.map((model) => ({ ...model, loaded: this.#loaded(model) }));
      this.known = true;
      await this.ask(options);
    } catch (error) {
      this.#failed(error);
    }
  }

  async ask(options = { ask: false }) {
    clearTimeout(this.#timer);
    try {
      const found = await call("models", options);
      const recovered = this.fault !== null;
      this.fault = null;
      this.loaded = found.models;
      Object.assign(this, { budget: found.budget, memory: found.memory, waiting: found.queue });
      for (const model of this.models) model.loaded = this.#loaded(model);
      this.#changed();
      if (recovered && !this.known) await this.look({ ask: false });
    } catch (error) {
      this.#failed(error);
    }
    this.#later();
  }

  // `keepAlive` below 0: until its memory is needed.
  async load(name, keepAlive = null) {
    const loading = call("models/load", { body: { model: name, ...(keepAlive !== null && { keep_alive: keepAlive }) } });
    setTimeout(() => this.ask(), 150);
    await loading.finally(() => this.ask());
  }

  async unload(name) {
    await call("models/stop", { body: { model: name } }).finally(() => this.ask());
  }

  #loaded(model) {
    return this.loaded.find((one) => one.name === model.model) ?? null;
  }

  #later() {
    clearTimeout(this.#timer);
    const browsed = !document.hidden && this.browsed() && Date.now() - this.#looked > SELDOM;
    const next = () => (browsed ? this.look({ ask: false }) : this.ask());
    this.#timer = setTimeout(next, !document.hidden && this.watched() ? OFTEN : SELDOM);
  }

  #failed(error) {
    this.fault = error;
    // What is loaded is not known any more.
    this.loaded = [];
    this.models = this.models.map((model) => ({ ...model, loaded: null }));
    Object.assign(this, { budget: 0, memory: 0, waiting: 0 });
    this.#changed();
    this.#later();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

export const machine = new Machine();

export const can = (model, what) =>
  !model.fault && (what === "draw" ? model.mode === "image" : model.mode === "text" && model.capabilities.includes("completion"));
