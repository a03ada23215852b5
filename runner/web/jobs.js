// The requests of this page that are not finished. A browser opens six connections to a server: a few of them carry
// work, further work waits here, and the other connections stay free for short calls.

import { stopped } from "./api.js";
import { randomId } from "./format.js";
import { HAS_GALLERY } from "./parameters.js";

// The gateway keeps the queue of drawings, if it keeps what they draw.
const AT_ONCE = { draw: HAS_GALLERY ? 1000 : 2, chat: 2 };
const REMEMBERED = 8;
export const GOING = ["queued", "waiting", "loading", "working"];

class Jobs extends EventTarget {
  list = [];

  // `work(job)` gets the job's signal and id, reports with `job.tell`, and its result is `job.done`'s.
  add(kind, title, model, work) {
    const ending = new AbortController();
    const job = { id: randomId(), kind, title, model, state: "queued", note: "", since: Date.now(), signal: ending.signal };
    job.tell = (changes) => {
      Object.assign(job, changes);
      this.#changed(job);
    };
    job.stop = () => {
      ending.abort();
      if (!job.began) this.#end(job, "stopped");
    };
    job.done = new Promise((resolve, reject) => {
      job.begin = () => this.#run(job, work).then(resolve, reject);
      ending.signal.addEventListener("abort", () => {
        if (!job.began) reject(ending.signal.reason);
      });
    });
    job.done.catch(() => undefined);
    this.list.push(job);
    this.#changed(job);
    this.#next();
    return job;
  }

  get going() {
    return this.list.filter((job) => GOING.includes(job.state));
  }

  #next() {
    for (const [kind, most] of Object.entries(AT_ONCE)) {
      const going = this.going.filter((job) => job.kind === kind);
      // One that has begun may be queued again, by the gateway.
      const waiting = going.filter((job) => !job.began);
      const free = most - (going.length - waiting.length);
      for (const job of waiting.slice(0, Math.max(0, free))) job.begin();
    }
  }

  async #run(job, work) {
    job.began = true;
    job.tell({ state: "waiting" });
    try {
      const result = await work(job);
      this.#end(job, "done");
      return result;
    } catch (error) {
      this.#end(job, stopped(error) ? "stopped" : "failed", error.message);
      throw error;
    }
  }

  #end(job, state, note = "") {
    job.tell({ state, note: state === "failed" ? note : "" });
    const over = this.list.filter((one) => !GOING.includes(one.state));
    this.list = this.list.filter((one) => GOING.includes(one.state) || over.indexOf(one) >= over.length - REMEMBERED);
    this.#changed(job);
    this.#next();
  }

  #changed(job) {
    this.dispatchEvent(new CustomEvent("change", { detail: job }));
  }
}

export const jobs = new Jobs();
