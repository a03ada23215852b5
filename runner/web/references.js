// Input pictures: dropped, pasted, or chosen.

import { $, announce, button, el } from "./dom.js";
import { plural } from "./format.js";
import { MOST_IMAGES } from "./parameters.js";

// Formats the gateway reads; others that the browser can show are converted to PNG.
const READ = ["image/png", "image/jpeg", "image/webp"];

export class References extends EventTarget {
  blobs = [];
  most = MOST_IMAGES; // that the model takes
  #urls = [];
  #parts;

  // `parts`: the ids of the button that adds a picture, of its file input, and of the list.
  constructor(where, parts = { add: "add-picture", file: "file", list: "references" }) {
    super();
    this.#parts = parts;
    const chosen = $(parts.file);
    $(parts.add).addEventListener("click", () => chosen.click());
    chosen.addEventListener("change", () => {
      this.add(Array.from(chosen.files));
      chosen.value = "";
    });
    this.#takeDrops(where);
    document.addEventListener("paste", (event) => {
      const files = Array.from(event.clipboardData?.files ?? []);
      if (where.hidden || !files.length) return;
      event.preventDefault();
      this.add(files);
    });
  }

  set(blobs) {
    this.blobs = blobs.slice(0, MOST_IMAGES);
    this.#show();
  }

  async add(files) {
    const faults = this.most ? [] : ["This model reads only text."];
    for (const file of this.most ? files : []) {
      if (this.blobs.length >= this.most) {
        faults.push(`This model takes at most ${plural(this.most, "input picture")}.`);
        break;
      }
      const picture = await readable(file);
      if (picture) this.blobs.push(picture);
      else faults.push(`${file.name || "The file"} is not a readable picture.`);
    }
    this.#show();
    this.fault = faults[0] ?? "";
    this.dispatchEvent(new Event("fault"));
  }

  #takeDrops(where) {
    const files = (event) => event.dataTransfer?.types.includes("Files");
    // Anywhere on the page: otherwise the browser would leave it to show the file.
    document.addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      where.classList.toggle("dropping", !where.hidden);
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) where.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      where.classList.remove("dropping");
      if (!where.hidden) this.add(Array.from(event.dataTransfer.files));
    });
  }

  #show() {
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    this.#urls = this.blobs.map((blob) => URL.createObjectURL(blob));
    $(this.#parts.list).replaceChildren(...this.#urls.map((url, index) => this.#item(url, index)));
    $(this.#parts.list).hidden = !this.blobs.length;
    announce(this.blobs.length ? plural(this.blobs.length, "input picture") : "");
    this.dispatchEvent(new Event("change"));
  }

  #item(url, index) {
    const removed = () => {
      this.set(this.blobs.filter((_, place) => place !== index));
      $(this.#parts.add).focus();
    };
    const remove = button(`Remove picture ${index + 1}`, "close", removed, { bare: true });
    return el("li", {}, el("img", { src: url, alt: `Input picture ${index + 1}` }), remove);
  }
}

// As an element of the page: its two events are certain, while a bitmap made of an unreadable file may stay pending.
export async function readable(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = new Image();
    await new Promise((done, failed) => {
      image.addEventListener("load", done);
      image.addEventListener("error", failed);
      image.src = url;
    });
    if (READ.includes(file.type)) return file;
    const canvas = el("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}
