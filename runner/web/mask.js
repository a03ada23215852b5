// The mask of the first input picture: a file whose white, or transparent, part is drawn anew.

import { paintMask } from "./brush.js";
import { $ } from "./dom.js";
import { readable } from "./references.js";

export class Mask extends EventTarget {
  blob = null;
  picture = null; // that it belongs to
  #url = "";

  constructor() {
    super();
    $("choose-mask").addEventListener("click", () => $("mask-file").click());
    $("mask-file").addEventListener("change", async () => {
      const [file] = $("mask-file").files;
      $("mask-file").value = "";
      if (file) await this.#read(file);
    });
    $("paint-mask").addEventListener("click", () => this.#paint());
    $("remove-mask").addEventListener("click", () => {
      this.set(null);
      $("choose-mask").focus();
    });
  }

  // Shown beside an input picture; without one a mask has no meaning.
  set shown(shown) {
    $("mask-field").hidden = !shown;
    if (shown) return;
    this.set(null);
    for (const input of $("mask-parameters").querySelectorAll("input, textarea")) input.value = "";
  }

  set(blob) {
    URL.revokeObjectURL(this.#url);
    this.blob = blob;
    this.#url = blob ? URL.createObjectURL(blob) : "";
    if (blob) $("mask-image").src = this.#url;
    $("mask-shown").hidden = !blob;
  }

  async #paint() {
    try {
      const mask = await paintMask(this.picture, this.blob);
      if (mask) this.set(mask);
    } catch {
      this.fault = "This picture cannot be painted on; choose a mask instead.";
      this.dispatchEvent(new Event("fault"));
    }
    $("paint-mask").focus();
  }

  async #read(file) {
    const blob = await readable(file);
    if (blob) this.set(blob);
    this.fault = blob ? "" : `${file.name || "The file"} is not a readable picture.`;
    this.dispatchEvent(new Event("fault"));
  }
}
