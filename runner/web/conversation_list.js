// The conversations of this browser: searched, opened, named, exported, deleted.

import { $, button, el, offerUndo } from "./dom.js";
import { exported, list, remove, restore } from "./conversation.js";
import { save } from "./pictures.js";

const MOST_SHOWN = 100;

export class ConversationList {
  // `chat`: open(conversation), rename(id, name), forgotten(id).
  constructor(chat) {
    this.chat = chat;
    $("conversations-button").addEventListener("click", () => this.#open());
    $("conversation-search").addEventListener("input", () => this.#show());
    $("close-conversations").addEventListener("click", () => $("conversations").close());
  }

  async #open() {
    $("conversation-search").value = "";
    await this.#show();
    $("conversations").showModal();
  }

  async #show() {
    const words = $("conversation-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = (await list()).filter((one) => words.every((word) => text(one).includes(word)));
    const rows = found.slice(0, MOST_SHOWN).map((one) => this.#row(one));
    $("conversation-rows").replaceChildren(...(rows.length ? rows : [el("li", { class: "hint" }, words.length ? "Nothing matches." : "No conversations yet.")]));
  }

  #row(one) {
    const open = () => {
      $("conversations").close();
      this.chat.open(one);
    };
    const name = button(one.name, null, open, { kind: "link", "aria-label": `Open ${one.name}` });
    const when = el("p", { class: "hint" }, `${new Date(one.changed).toLocaleString()} · ${one.messages.length} messages`);
    const about = el("div", {}, name, when);
    const named = (what) => ({ bare: true, "aria-label": `${what} ${one.name}` });
    return el("li", { class: "row-item" }, about, el("div", { class: "tools" },
      button("Rename", "edit", () => this.#rename(one, name), named("Rename")),
      button("Export", "download", () => download(one), named("Export")),
      button("Delete", "trash", () => this.#remove(one), named("Delete")),
    ));
  }

  #rename(one, shown) {
    const input = el("input", { value: one.name, maxlength: 200, "aria-label": "Name of the conversation" });
    const done = async () => {
      const name = input.value.trim();
      if (name && name !== one.name) {
        one.name = name;
        await restore(one);
        this.chat.rename(one.id, name);
      }
      await this.#show();
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") input.blur();
      if (event.key === "Escape") {
        event.preventDefault();
        input.value = one.name;
        input.blur();
      }
    });
    input.addEventListener("blur", done, { once: true });
    shown.replaceWith(input);
    input.select();
  }

  async #remove(one) {
    await remove(one.id);
    this.chat.forgotten(one.id);
    $("conversations").close();
    offerUndo("Deleted", () => restore(one));
  }
}

const text = (one) => [one.name, ...one.messages.map((message) => message.content)].join("\n").toLowerCase();

function download(one) {
  const words = one.name.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["conversation"];
  const url = URL.createObjectURL(new Blob([exported(one)], { type: "text/markdown" }));
  save(url, `${words.join("-").slice(0, 60)}.md`);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
