// Drawings that the gateway goes on with when the page is closed. One stream tells of all of them.

import { Refused, call, stream } from "./api.js";
import { Clock, request, base64 } from "./drawing.js";
import { jobs } from "./jobs.js";
import { HAS_GALLERY } from "./parameters.js";
import { tell } from "./pictures.js";
import { adapted } from "./server_pictures.js";

const PATIENCE = [1000, 3000, 10_000];
const OVER = ["done", "failed", "stopped"];

class ServerJobs {
  adopted = () => undefined; // called with each job that another page began
  #followed = new Map(); // by the gateway's id
  #begun = new Set(); // all ids that this page has followed
  #posting = 0;
  #unknown = new Map();
  #connection = null;
  #failures = 0;

  watch() {
    if (!HAS_GALLERY) return;
    document.addEventListener("visibilitychange", () => this.#connect());
    this.#connect();
  }

  async draw(recipe, job) {
    job.stays = true;
    const images = await Promise.all(recipe.references.map(base64));
    const masked = recipe.mask && (await base64(recipe.mask));
    this.#posting += 1;
    let state;
    try {
      state = await call("gallery/jobs", { body: request(recipe, images, masked), signal: job.signal });
      this.#begun.add(state.id);
    } finally {
      this.#posting -= 1;
      if (!this.#posting) this.#meet();
    }
    this.#connect();
    return this.#follow(state, job);
  }

  // The pictures, when the gateway has drawn them.
  #follow(state, job) {
    return new Promise((resolve, reject) => {
      this.#begun.add(state.id);
      this.#followed.set(state.id, { job, resolve, reject, clock: new Clock() });
      const stop = () => {
        call(`gallery/jobs/${state.id}`, { method: "DELETE", ask: false }).catch(() => undefined);
        reject(job.signal.reason);
        this.#followed.delete(state.id);
      };
      if (job.signal.aborted) stop();
      else job.signal.addEventListener("abort", stop);
      this.#update(this.#unknown.get(state.id) ?? state);
      this.#unknown.delete(state.id);
    });
  }

  // Only while the page is seen: a browser opens six connections to a server, and there may be many tabs.
  #connect() {
    if (document.hidden) {
      this.#connection?.abort();
      this.#connection = null;
    } else if (!this.#connection) {
      this.#connection = new AbortController();
      this.#read(this.#connection);
    }
  }

  async #read(connection) {
    try {
      for await (const { jobs: all, job } of stream("gallery/jobs/events", { signal: connection.signal, ask: false })) {
        this.#failures = 0;
        if (all) this.#list(all);
        else if (job) this.#heard(job);
      }
    } catch {
      this.#failures += 1;
    }
    if (this.#connection !== connection) return;
    const wait = PATIENCE[Math.min(this.#failures, PATIENCE.length - 1)];
    setTimeout(() => {
      if (this.#connection !== connection) return;
      this.#connection = null;
      this.#connect();
    }, wait);
  }

  #list(all) {
    const ids = new Set(all.map((state) => state.id));
    for (const [id, followed] of this.#followed) {
      if (!ids.has(id)) this.#end(id, () => followed.reject(new Refused("The gateway was started anew, and this drawing is lost")));
    }
    for (const state of all) if (!OVER.includes(state.state) || this.#begun.has(state.id)) this.#heard(state);
  }

  #heard(state) {
    if (this.#followed.has(state.id)) this.#update(state);
    else if (this.#begun.has(state.id)) return;
    else {
      this.#unknown.set(state.id, state);
      if (!this.#posting) this.#meet();
    }
  }

  // Jobs that other pages began, or this one before it was loaded anew.
  #meet() {
    for (const [id, state] of this.#unknown) {
      if (this.#begun.has(id)) continue;
      if (OVER.includes(state.state)) {
        this.#unknown.delete(id);
        if (state.state === "done") tell();
        continue;
      }
      this.#begun.add(id);
      const job = jobs.add("draw", state.recipe.prompt, state.model, (one) => this.#follow(state, one));
      job.stays = true;
      job.recipe = state.inputs ? null : { ...state.recipe, references: [], mask: null };
      this.adopted(job);
    }
  }

  #update(state) {
    const { job, resolve, reject, clock } = this.#followed.get(state.id);
    if (state.state === "done") {
      this.#end(state.id, () => resolve(state.pictures.map(adapted)));
      tell();
    } else if (state.state === "failed") {
      this.#end(state.id, () => reject(new Refused(state.error, state.status)));
    } else if (state.state === "stopped") {
      this.#end(state.id, () => reject(new DOMException("stopped by another page", "AbortError")));
    } else {
      const { progress, step, total, preview } = state;
      const left = state.state === "working" ? clock.step(step, total) : null;
      const seen = preview ? { preview: `data:image/png;base64,${preview}` } : {};
      job.tell({ state: state.state, progress, step, total, left, ...seen });
    }
  }

  #end(id, settle) {
    this.#followed.delete(id);
    settle();
  }
}

export const serverJobs = new ServerJobs();
