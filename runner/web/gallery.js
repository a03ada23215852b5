// All pictures: searched, favourites, as a zip file.

import { $, el } from "./dom.js";
import { bytes, plural } from "./format.js";
import { HAS_GALLERY } from "./parameters.js";
import { hands, openPicture } from "./picture.js";
import { changes, downloadAll, find, imageOf, isKept } from "./pictures.js";

const AT_ONCE = 60;
const PAUSE_MS = 150; // while a search is typed

export class Gallery {
  #pictures = [];
  #turn = 0;
  #typing = 0;

  constructor(board, go) {
    Object.assign(hands, { board, go, failed: (text) => this.#say(text) });
    changes.addEventListener("change", () => !$("view-gallery").hidden && this.show());
    $("search").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.show(), PAUSE_MS);
    });
    $("favourites").addEventListener("change", () => this.show());
    $("more-pictures").addEventListener("click", () => this.#more());
    $("download-all").hidden = !HAS_GALLERY;
    $("download-all").addEventListener("click", () => downloadAll(this.#wanted).catch((error) => this.#say(error.message)));
  }

  get #wanted() {
    return { search: $("search").value.trim(), favourites: $("favourites").checked };
  }

  // As many as are shown already, if there are more.
  async show() {
    await this.#find({ limit: Math.min(500, Math.max(AT_ONCE, this.#pictures.length)) }, []);
  }

  async #more() {
    await this.#find({ limit: AT_ONCE, before: this.#pictures.at(-1) }, this.#pictures);
  }

  async #find(part, before) {
    const turn = ++this.#turn;
    try {
      const found = await find({ ...this.#wanted, ...part });
      if (turn !== this.#turn) return;
      this.#pictures = [...before, ...found.pictures];
      this.#show(found);
    } catch (error) {
      if (turn === this.#turn) this.#say(error.message);
    }
  }

  #show(found) {
    $("pictures").replaceChildren(...this.#pictures.map((picture) => item(picture, this.#pictures)));
    $("more-pictures").hidden = !found.more;
    $("download-all").disabled = found.total === found.here;
    const any = this.#wanted.search || this.#wanted.favourites;
    this.#say(note(found, this.#pictures, any));
  }

  #say(text) {
    $("gallery-note").textContent = text;
  }
}

function note(found, pictures, any) {
  if (!found.total) {
    if (any) return "No prompts match.";
    return HAS_GALLERY ? "No pictures yet. What you draw is kept here." : "No pictures yet. The pictures you draw are stored here, in this browser only.";
  }
  const unkept = pictures.some((picture) => !isKept(picture.id));
  if (unkept) return `${plural(found.total, "picture")}, some of them only until you close this page: download the ones you want to keep.`;
  if (!HAS_GALLERY) return `${plural(found.total, "picture")}, stored in this browser only.`;
  const rest = found.here ? `; ${found.here} of them in this browser only` : "";
  return `${plural(found.total, "picture")}${rest}. The gallery takes ${bytes(found.bytes)}.`;
}

function item(picture, others) {
  const image = imageOf(picture, "", true);
  const open = { "aria-label": picture.recipe.prompt, on: { click: () => openPicture(picture, others) } };
  const star = picture.favourite ? el("b", { class: "starred", title: "Favourite" }, "★") : null;
  return el("li", {}, el("button", { type: "button", class: "thumb", ...open }, image, el("span", { "aria-hidden": "true" }, picture.recipe.prompt), star));
}
