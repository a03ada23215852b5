// The pictures kept in this browser.

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
    const wanted = $("search").value.trim().toLowerCase();
    const found = pictures.filter((picture) => picture.recipe.prompt.toLowerCase().includes(wanted));
    $("pictures").replaceChildren(...found.slice(0, this.#most).map((picture) => item(picture, found)));
    $("more-pictures").hidden = found.length <= this.#most;
    $("gallery-note").textContent = note(pictures, found);
  }
}

function note(pictures, found) {
  if (!pictures.length) return "Empty so far. What you draw is kept here, in this browser alone.";
  if (!found.length) return "No prompt says that.";
  const unkept = pictures.some((picture) => !isKept(picture.id));
  const how = unkept ? "this browser keeps some until the page is closed only: download what you want" : "kept in this browser alone";
  return `${plural(found.length, "picture")}, ${how}.`;
}

function item(picture, others) {
  const image = el("img", { src: address(picture), alt: "", loading: "lazy" });
  const open = { "aria-label": picture.recipe.prompt, on: { click: () => openPicture(picture, others) } };
  return el("li", {}, el("button", { type: "button", class: "thumb", ...open }, image, el("span", { "aria-hidden": "true" }, picture.recipe.prompt)));
}
