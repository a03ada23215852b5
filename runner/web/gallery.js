// The pictures stored in this browser.

import { $, el } from "./dom.js";
import { plural } from "./format.js";
import { hands, openPicture } from "./picture.js";
import { address, all, changes, isKept } from "./pictures.js";

const AT_ONCE = 60;

export class Gallery {
  #most = AT_ONCE;

  constructor(board, go) {
    Object.assign(hands, { board, go });
    changes.addEventListener("change", () => !$("view-gallery").hidden && this.show());
    $("search").addEventListener("input", () => this.show());
    $("more-pictures").addEventListener("click", () => {
      this.#most += AT_ONCE;
      this.show();
    });
  }

  async show() {
    const pictures = await all();
    const query = $("search").value.trim().toLowerCase();
    const found = pictures.filter((picture) => picture.recipe.prompt.toLowerCase().includes(query));
    $("pictures").replaceChildren(...found.slice(0, this.#most).map((picture) => item(picture, found)));
    $("more-pictures").hidden = found.length <= this.#most;
    $("gallery-note").textContent = note(pictures, found);
  }
}

function note(pictures, found) {
  if (!pictures.length) return "No pictures yet. The pictures you draw are stored here, in this browser only.";
  if (!found.length) return "No prompts match.";
  const unkept = pictures.some((picture) => !isKept(picture.id));
  const how = unkept ? "some of them only until you close this page: download the ones you want to keep" : "stored in this browser only";
  return `${plural(found.length, "picture")}, ${how}.`;
}

function item(picture, others) {
  const image = el("img", { src: address(picture), alt: "", loading: "lazy" });
  const open = { "aria-label": picture.recipe.prompt, on: { click: () => openPicture(picture, others) } };
  return el("li", {}, el("button", { type: "button", class: "thumb", ...open }, image, el("span", { "aria-hidden": "true" }, picture.recipe.prompt)));
}
