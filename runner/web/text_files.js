// Files of text that go with a message: their text is put before it.

import { $, button, el } from "./dom.js";
import { bytes } from "./format.js";

const MOST_BYTES = 1_000_000;

export class TextFiles {
  files = []; // {name, text}

  constructor(complain) {
    this.complain = complain;
    $("add-text").addEventListener("click", () => $("text-file").click());
    $("text-file").addEventListener("change", async () => {
      const chosen = Array.from($("text-file").files);
      $("text-file").value = "";
      for (const file of chosen) await this.#add(file);
    });
  }

  async #add(file) {
    const fault = file.size > MOST_BYTES ? `has ${bytes(file.size)}; at most ${bytes(MOST_BYTES)} are read` : "";
    const text = fault ? null : await decoded(file);
    if (text === null) this.complain(`${file.name} ${fault || "is not a file of text"}.`);
    else {
      this.files.push({ name: file.name, text });
      this.complain("");
    }
    this.#show();
  }

  // The message with the files before it, which are then gone from here.
  take(message) {
    const before = this.files.map(({ name, text }) => {
      const fence = "`".repeat(Math.max(3, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length + 1)));
      return `${name}:\n${fence}\n${text.trimEnd()}\n${fence}`;
    });
    this.files = [];
    this.#show();
    return [...before, message].filter(Boolean).join("\n\n");
  }

  #show() {
    const rows = this.files.map((file) => {
      const away = () => {
        this.files = this.files.filter((one) => one !== file);
        this.#show();
      };
      return el("li", { class: "text-file" }, `${file.name}, ${bytes(file.text.length)}`, button("Remove", "close", away, { bare: true, "aria-label": `Remove ${file.name}` }));
    });
    $("text-files").replaceChildren(...rows);
    $("text-files").hidden = !rows.length;
  }
}

async function decoded(file) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}
