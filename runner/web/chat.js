// A conversation with a language model.

import { Answer, figures, question } from "./answer.js";
import { events, stopped } from "./api.js";
import { Choice } from "./choice.js";
import { $, announce, el } from "./dom.js";
import { isCurrent, keep, leave, recall } from "./conversation.js";
import { ConversationList } from "./conversation_list.js";
import { base64 } from "./drawing.js";
import { randomId } from "./format.js";
import { jobs } from "./jobs.js";
import { can, machine } from "./machine.js";
import { MOST_IMAGES } from "./parameters.js";
import { References } from "./references.js";
import { number } from "./sizes.js";
import { TextFiles } from "./text_files.js";

const SETTINGS = ["system", "temperature", "top-p", "most", "think"]; // of a conversation
const USUAL = { temperature: "0.7" };

export class Chat {
  draws = () => undefined; // called with the text of an answer that is to be drawn
  #messages = []; // {role, content, pictures; of answers also model and thinking}, without the system prompt; pictures are blobs
  #about = null; // {id, name} of the conversation
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
      leave();
      this.#clear();
    });
    $("transcript").addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = $("transcript");
      this.#follows = scrollHeight - scrollTop - clientHeight < 40;
    });
    $("transcript").addEventListener("grown", () => this.#scroll());
    this.files = new TextFiles((text) => this.#hint(text));
    this.list = new ConversationList(this);
    this.#clear();
    recall().then((kept) => kept && !this.#messages.length && this.open(kept));
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
    this.#about = null;
    for (const picture of $("transcript").querySelectorAll(".shown img")) URL.revokeObjectURL(picture.src);
    this.pictures.set([]);
    this.#hint("");
    this.#capable();
    $("transcript").replaceChildren(el("p", { class: "hint begin" }, "Start a conversation. It is kept in this browser."));
    this.focus();
  }

  // A conversation that was kept, with its settings.
  open({ id, name, messages, settings }) {
    this.#clear();
    this.#about = { id, name };
    for (const field of SETTINGS) $(field).value = settings?.[field] ?? USUAL[field] ?? "";
    this.#restore([...messages]);
    this.#keep();
  }

  rename(id, name) {
    if (this.#about?.id === id) this.#about.name = name;
  }

  // It was deleted.
  forgotten(id) {
    if (!isCurrent(id)) return;
    leave();
    this.#clear();
  }

  #keep() {
    const settings = Object.fromEntries(SETTINGS.map((field) => [field, $(field).value]));
    const [first] = this.#messages;
    this.#about ??= { id: randomId(), name: first.content.trim().split("\n")[0].slice(0, 80) || "A picture" };
    keep({ ...this.#about, settings, messages: this.#messages });
  }

  // The message goes back to where it is written, and what followed it goes.
  #edit(message) {
    const at = this.#messages.indexOf(message);
    if (this.#job || at < 0) return;
    this.#restore(this.#messages.slice(0, at));
    $("message").value = message.content;
    this.pictures.set(message.pictures ?? []);
    fit();
    $("message").focus();
  }

  #restore(messages) {
    this.#messages = messages;
    $("transcript").replaceChildren();
    for (const message of messages) {
      if (message.role === "user") {
        $("transcript").append(this.#question(message));
        continue;
      }
      const answer = new Answer(message.model);
      $("transcript").append(answer.node);
      answer.add(message.content, message.thinking);
      answer.end("", message === messages.at(-1) && (() => this.#again(messages, answer)), this.#drawing);
    }
    this.#capable();
  }

  #question(message) {
    return question(message.content, message.pictures, () => this.#edit(message));
  }

  // What draws an answer's text, where a model can.
  get #drawing() {
    return machine.models.some((model) => can(model, "draw")) ? (text) => this.draws(text) : null;
  }

  #send() {
    const written = $("message").value.trim();
    const pictures = this.pictures.blobs;
    if ((!written && !pictures.length && !this.files.files.length) || this.#job || !this.choice.select.value) return;
    const text = this.files.take(written);
    if (!this.#messages.length) $("transcript").replaceChildren();
    // Only the last answer can be regenerated; a message without an answer is dropped from the conversation.
    for (const made of $("transcript").querySelectorAll(".retry")) made.remove();
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    $("message").value = "";
    fit();
    const message = { role: "user", content: text, pictures };
    this.#messages.push(message);
    $("transcript").append(this.#question(message));
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
      if (kept && messages === this.#messages) this.#keep();
      answer.end(note, kept && (() => this.#again(messages, answer)), this.#drawing);
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
    if ($("top-p").value.trim()) options.top_p = number($("top-p"));
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
