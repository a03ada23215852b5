// Shows a drawing in progress (preview, step, time left), then its pictures or its error.

import { announce, button, el, fault } from "./dom.js";
import { plural, span } from "./format.js";
import { GOING, jobs } from "./jobs.js";
import { machine } from "./machine.js";
import { changes, imageOf, latest } from "./pictures.js";
import { actions, openPicture } from "./picture.js";

const IDEAS = [
  "a red circle above a blue square",
  "a yellow star on a black background",
  "three small green triangles",
];

export class Stage {
  #job = null;
  #pictures = [];
  #at = 0;

  constructor(root, board) {
    this.board = board;
    this.easel = el("div", { class: "easel" });
    this.strip = el("ul", { class: "strip", "aria-label": "Recent pictures" });
    root.append(this.easel, this.strip);
    jobs.addEventListener("change", ({ detail }) => {
      if (detail === this.#job) this.#follow();
      else if (detail.kind === "draw" && this.#over && detail.state === "working") this.#watch(detail);
    });
    changes.addEventListener("change", ({ detail }) => {
      if (detail.removed) this.#drop(detail.removed);
      this.#showStrip();
    });
    board.choice.addEventListener("change", () => {
      this.ideas.hidden = !board.choice.model?.sample;
    });
    this.#empty();
    this.#showStrip();
  }

  get #over() {
    return !this.#job || !GOING.includes(this.#job.state);
  }

  // Shows a new drawing, unless one is still in progress.
  show(job) {
    const free = () => this.#job === job || this.#over;
    job.done.then(
      (pictures) => free() && this.#done(pictures),
      (error) => free() && this.#failed(job, error),
    );
    if (this.#over) this.#watch(job);
    else this.#follow();
  }

  #watch(job) {
    this.#job = job;
    this.easel.parentElement.classList.add("used");
    this.#build();
    this.#follow();
  }

  #build() {
    this.preview = el("div", { class: "preview" });
    this.bar = el("progress", { max: 1, "aria-label": "Progress" });
    this.said = el("p", { class: "said" });
    const stop = button("Stop", "stop", () => this.#job.stop());
    const about = el("div", { class: "under" }, el("div", { class: "going" }, this.said, this.bar), stop);
    this.easel.replaceChildren(this.preview, about);
    this.easel.setAttribute("aria-busy", "true");
    // On a phone it is below the form.
    this.easel.scrollIntoView({ block: "nearest" });
  }

  #follow() {
    const job = this.#job;
    if (!GOING.includes(job.state)) return;
    const more = jobs.going.filter((one) => one.kind === "draw").length - 1;
    this.said.textContent = `${progress(job)}${more ? `; ${more} more queued` : ""}`;
    const part = job.state === "loading" ? job.progress : job.step / job.total;
    if (Number.isFinite(part) && job.state !== "waiting") this.bar.value = part;
    else this.bar.removeAttribute("value");
    if (job.preview && this.preview.dataset.of !== String(job.step)) {
      this.preview.dataset.of = String(job.step);
      this.preview.replaceChildren(el("img", { src: job.preview, alt: "Preview of the unfinished picture" }));
    }
  }

  #done(pictures) {
    announce(`${plural(pictures.length, "picture")} drawn`);
    this.#look(pictures, 0);
  }

  #look(pictures, at) {
    this.#pictures = pictures;
    this.#at = at;
    const picture = pictures[at];
    this.easel.removeAttribute("aria-busy");
    const image = imageOf(picture, picture.recipe.prompt);
    const large = el("button", { type: "button", class: "canvas", "aria-label": `Enlarge: ${picture.recipe.prompt}` }, image);
    large.addEventListener("click", () => openPicture(picture));
    const others = pictures.length > 1 ? this.#others() : null;
    const warnings = picture.warnings.map((warning) => el("p", { class: "hint" }, warning));
    const under = el("div", { class: "under" }, el("p", { class: "said" }, ...caption(picture)), el("div", { class: "tools" }, ...actions(picture)));
    this.easel.replaceChildren(large, ...(others ? [others] : []), under, ...warnings);
  }

  #others() {
    const choices = this.#pictures.map((picture, index) => {
      const image = imageOf(picture, "", true);
      const choose = () => this.#look(this.#pictures, index);
      const pressed = { "aria-label": `Picture ${index + 1}`, "aria-pressed": String(index === this.#at) };
      return el("button", { type: "button", class: "thumb", ...pressed, on: { click: choose } }, image);
    });
    return el("div", { class: "others", role: "group", "aria-label": "Pictures of this request" }, ...choices);
  }

  #failed(job, error) {
    this.easel.removeAttribute("aria-busy");
    if (job.state === "stopped") {
      announce("Stopped");
      this.#empty("Stopped.");
      return;
    }
    // The notice above the form, or the field, says why already.
    const told = job.refused || error.message === machine.fault?.message;
    const said = told ? "The picture was not drawn." : error.message;
    const again = job.recipe && button("Try again", "again", () => this.board.draw(job.recipe));
    this.easel.replaceChildren(fault(said, again));
  }

  #empty(said = "Your picture will appear here.") {
    const ideas = el("ul", { class: "chips ideas" }, IDEAS.map((idea) => el("li", {}, button(idea, null, () => this.board.try(idea)))));
    // The ideas are for the sample, which knows little else.
    ideas.hidden = !this.board.choice.model?.sample;
    this.ideas = ideas;
    this.easel.replaceChildren(el("div", { class: "preview empty" }, el("div", {}, el("p", {}, said), ideas)));
  }

  // Deleted pictures leave the stage; the others of their drawing stay.
  #drop(id) {
    const left = this.#pictures.filter((picture) => picture.id !== id);
    if (left.length === this.#pictures.length || !this.#over || !this.easel.querySelector(".canvas")) return;
    if (left.length) this.#look(left, Math.min(this.#at, left.length - 1));
    else this.#empty();
  }

  async #showStrip() {
    const pictures = await latest(12).catch(() => []);
    const items = pictures.map((picture) => {
      const image = imageOf(picture, "", true);
      const look = () => (this.#over ? this.#look([picture], 0) : openPicture(picture));
      return el("li", {}, el("button", { type: "button", class: "thumb", "aria-label": picture.recipe.prompt, on: { click: look } }, image));
    });
    this.strip.replaceChildren(...items);
    this.strip.hidden = !items.length;
  }
}

function progress(job) {
  if (job.state === "queued") return "Queued";
  if (job.state === "waiting") return "Waiting";
  if (job.state === "loading") return `Loading the model, ${Math.round(job.progress * 100)}%`;
  if (!job.step) return "Encoding the prompt";
  const left = job.left === null ? "" : job.step < job.total ? `, about ${span(job.left)} left` : ", nearly done";
  return `Step ${job.step} of ${job.total}${left}`;
}

function caption(picture) {
  const [width, height] = picture.size;
  return [`${width} × ${height}, seed ${picture.recipe.seed}, ${span(picture.seconds)}`];
}

export { progress };
