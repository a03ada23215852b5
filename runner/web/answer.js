// One message of a conversation, also while it is being generated.

import { copying } from "./code.js";
import { button, el, fault } from "./dom.js";
import { plural } from "./format.js";
import { Markdown } from "./markdown.js";

// `pictures`: blobs that go with it; `edit` changes it.
export function question(text, pictures = [], edit = null) {
  const shown = pictures.map((picture, index) => el("img", { src: URL.createObjectURL(picture), alt: `Picture ${index + 1}` }));
  const beside = shown.length > 0 && el("div", { class: "shown" }, shown);
  return el("article", { class: "message yours", "aria-label": "You" }, beside, text && el("p", {}, text), edit && el("div", { class: "foot" }, small("Edit", "edit", edit)));
}

export class Answer {
  text = "";
  thinking = "";
  #drawn = 0;

  constructor(name) {
    this.said = el("p", { class: "hint said" }, "Waiting");
    this.body = el("div", { class: "prose" });
    this.foot = el("div", { class: "foot" }, this.said);
    this.node = el("article", { class: "message", "aria-label": `Answer from ${name}`, "aria-busy": "true" }, this.body, this.foot);
    this.markdown = new Markdown(this.body);
  }

  // New text is shown once per frame, however fast it comes.
  add(text, thinking) {
    this.text += text ?? "";
    this.thinking += thinking ?? "";
    this.#drawn ||= requestAnimationFrame(() => this.#draw());
  }

  say(text) {
    this.said.textContent = text;
  }

  #draw() {
    this.#drawn = 0;
    if (this.thinking) this.#think();
    this.markdown.text = this.text;
    this.node.dispatchEvent(new CustomEvent("grown", { bubbles: true }));
  }

  #think() {
    if (!this.thoughts) {
      this.thoughts = el("p", { class: "thoughts" });
      this.node.prepend(el("details", { class: "thinking" }, el("summary", {}, "Thoughts"), this.thoughts));
    }
    this.thoughts.textContent = this.thinking;
  }

  // `note` says how it ended; `again` asks for another answer; `draw` draws its text.
  end(note, again, draw = null) {
    cancelAnimationFrame(this.#drawn);
    this.#draw();
    this.node.removeAttribute("aria-busy");
    this.say(note);
    const copy = this.text ? copying(() => this.text) : null;
    const drawn = draw && this.text && small("Draw this", "brush", () => draw(this.text));
    this.foot.replaceChildren(...[copy, again && retry("Regenerate", again), drawn, this.said].filter(Boolean));
  }

  fail(message, again) {
    this.end("", null);
    this.foot.replaceChildren(fault(message, retry("Try again", again)));
  }
}

function small(label, name, pressed) {
  const made = button(label, name, pressed);
  made.classList.add("small");
  return made;
}

function retry(label, pressed) {
  const made = small(label, "again", pressed);
  made.classList.add("retry");
  return made;
}

export function figures(done) {
  if (!done.eval_count) return "";
  const rate = done.eval_count / (done.eval_duration / 1e9);
  const speed = Number.isFinite(rate) && rate > 0 ? `, ${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s` : "";
  const cut = done.done_reason === 1 ? "; stopped at the length limit" : "";
  return `${plural(done.eval_count, "token")}${speed}${cut}`;
}
