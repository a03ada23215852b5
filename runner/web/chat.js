// A conversation with a language model.

import { Answer, figures, question } from "./answer.js";
import { events, stopped } from "./api.js";
import { Choice } from "./choice.js";
import { $, announce, el } from "./dom.js";
import { forget, keep, recall } from "./conversation.js";
import { base64 } from "./drawing.js";
import { jobs } from "./jobs.js";
import { MOST_IMAGES } from "./parameters.js";
import { References } from "./references.js";
import { number } from "./sizes.js";

export class Chat {
  #messages = []; // {role, content, pictures; of answers also model and thinking}, without the system prompt; pictures are blobs
  #job = null;
  #follows = true;

  constructor() {
    this.choice = new Choice($("chat-model"), "chat");
    this.pictures = new References($("view-chat"), { add: "show-picture", file: "chat-file", list: "chat-pictures" });
    this.pictures.addEventListener("fault", () => this.#hint(this.pictures.fault));
    this.choice.addEventListener("change", () => this.#capable());
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("message").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    });
    $("message").addEventListener("input", fit);
    $("stop-chat").addEventListener("click", () => this.#job?.stop());
    $("new-chat").addEventListener("click", () => {
      forget();
      this.#clear();
    });
    $("transcript").addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = $("transcript");
      this.#follows = scrollHeight - scrollTop - clientHeight < 40;
    });
    $("transcript").addEventListener("grown", () => this.#scroll());
    this.#clear();
    this.#restore(recall());
  }

  focus() {
    if (matchMedia("(hover: hover)").matches) $("message").focus();
  }

  #capable() {
    const capabilities = this.choice.model?.capabilities ?? [];
    $("think-field").hidden = !capabilities.includes("thinking");
    $("show-picture").hidden = !capabilities.includes("vision");
    const shown = this.#messages.reduce((count, message) => count + (message.pictures?.length ?? 0), 0);
    this.pictures.most = capabilities.includes("vision") ? MOST_IMAGES - shown : 0;
  }

  #hint(text) {
    $("chat-hint").textContent = text;
    $("chat-hint").hidden = !text;
  }

  #clear() {
    this.#job?.stop();
    this.#messages = [];
    for (const picture of $("transcript").querySelectorAll(".shown img")) URL.revokeObjectURL(picture.src);
    this.pictures.set([]);
    this.#hint("");
    this.#capable();
    $("transcript").replaceChildren(el("p", { class: "hint begin" }, "Start a conversation. It is forgotten when you close this tab."));
    this.focus();
  }

  #restore(messages) {
    if (!messages.length) return;
    this.#messages = messages;
    $("transcript").replaceChildren();
    for (const message of messages) {
      if (message.role === "user") {
        $("transcript").append(question(message.content, message.pictures));
        continue;
      }
      const answer = new Answer(message.model);
      $("transcript").append(answer.node);
      answer.add(message.content, message.thinking);
      answer.end("", message === messages.at(-1) && (() => this.#again(messages, answer)));
    }
    this.#capable();
  }

  #send() {
    const text = $("message").value.trim();
    const pictures = this.pictures.blobs;
    if ((!text && !pictures.length) || this.#job || !this.choice.select.value) return;
    if (!this.#messages.length) $("transcript").replaceChildren();
    // Only the last answer can be regenerated; a message without an answer is dropped from the conversation.
    for (const made of $("transcript").querySelectorAll(".retry")) made.remove();
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    $("message").value = "";
    fit();
    this.#messages.push({ role: "user", content: text, pictures });
    $("transcript").append(question(text, pictures));
    this.pictures.set([]);
    this.#hint("");
    this.#capable();
    this.#answer();
  }

  #answer() {
    const model = this.choice.select.value;
    const messages = this.#messages;
    const answer = new Answer(model);
    $("transcript").append(answer.node);
    this.#follows = true;
    this.#scroll();
    const job = jobs.add("chat", messages.at(-1).content || "a picture", model, (one) => this.#write(one, answer, [...messages]));
    this.#going(job);
    // A conversation that was left for a new one is not kept.
    const over = (note, kept) => {
      if (kept) messages.push({ role: "assistant", content: answer.text, model, thinking: answer.thinking });
      if (kept && messages === this.#messages) keep(messages);
      answer.end(note, kept && (() => this.#again(messages, answer)));
    };
    job.done
      .then((done) => {
        over(figures(done), true);
        announce("Answer complete");
      })
      .catch((error) => {
        if (stopped(error)) over("Stopped", true);
        else answer.fail(error.message, () => this.#again(messages, answer));
      })
      .finally(() => this.#job === job && this.#going(null));
  }

  // Generate the last answer again; earlier ones stay as they are.
  #again(messages, answer) {
    if (this.#job || messages !== this.#messages) return;
    if (messages.at(-1).role === "assistant") messages.pop();
    answer.node.remove();
    this.#answer();
  }

  async #write(job, answer, messages) {
    const body = await this.#request(job.model, messages);
    for await (const event of events("completion", { body, signal: job.signal, id: job.id })) {
      if (event.status === "loading") {
        job.tell({ state: "loading", note: "loading the model" });
        answer.say(`Loading the model, ${Math.round(event.progress * 100)}%`);
        continue;
      }
      if (job.state !== "working") job.tell({ state: "working", note: "writing" });
      if (event.thinking || event.content) answer.say(event.content ? "Writing" : "Thinking");
      answer.add(event.content, event.thinking);
      if (event.done) return event;
    }
    return null;
  }

  async #request(model, messages) {
    const system = $("system").value.trim();
    const instructions = system ? [{ role: "system", content: system }] : [];
    const options = {};
    if ($("temperature").value.trim()) options.temperature = number($("temperature"));
    if ($("most").value.trim()) options.num_predict = number($("most"));
    const think = $("think-field").hidden ? "" : $("think").value;
    const thinking = think ? { think: think === "on" } : {};
    const sent = await Promise.all(messages.map(written));
    return { model, messages: [...instructions, ...sent], options, split: true, progress: true, ...thinking };
  }

  #going(job) {
    this.#job = job;
    $("send").hidden = Boolean(job);
    $("stop-chat").hidden = !job;
    $("transcript").classList.toggle("going", Boolean(job));
  }

  #scroll() {
    if (this.#follows) $("transcript").scrollTop = $("transcript").scrollHeight;
  }
}

// A message as the gateway reads it, its pictures in base64.
async function written({ role, content, pictures = [] }) {
  const images = await Promise.all(pictures.map(base64));
  return images.length ? { role, content, images } : { role, content };
}

function fit() {
  const area = $("message");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 220)}px`;
}
