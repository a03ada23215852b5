// A mask painted over a picture: what is painted is drawn anew. Pointer or keyboard.

import { $, announce, button, el } from "./dom.js";

const MOST_STEPS = 30; // that can be undone
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Opens the dialog; resolves to the mask as a PNG, or null if nothing was painted or it was cancelled.
export async function paintMask(picture, before = null) {
  const [image, mask] = await Promise.all([createImageBitmap(picture), before && createImageBitmap(before)]);
  return new Promise((done) => new Brush($("brush"), image, mask, done));
}

class Brush {
  #undo = [];
  #last = null; // where the pointer was while it paints
  #erases = false;
  #at; // the keyboard's place

  constructor(dialog, image, mask, done) {
    Object.assign(this, { dialog, image, done, result: null });
    this.#at = [image.width / 2, image.height / 2];
    // Painted white on nothing; shown half transparent over the picture.
    this.mask = this.#canvas();
    this.pen = this.mask.getContext("2d", { willReadFrequently: true });
    if (mask) this.#take(mask);
    this.view = this.#canvas({ tabindex: 0, role: "application", "aria-label": "Picture to paint on", "aria-describedby": "brush-keys" });
    this.view.style.width = `min(100%, calc(50dvh * ${image.width / image.height}))`;
    this.size = el("input", { type: "range", id: "brush-size", min: 1, max: 100, value: 20 });
    this.#build();
    this.#listen();
    this.#show();
    dialog.showModal();
    this.view.focus();
  }

  #canvas(attributes = {}) {
    return Object.assign(el("canvas", attributes), { width: this.image.width, height: this.image.height });
  }

  #build() {
    const choose = (erases) => {
      this.#erases = erases;
      paint.setAttribute("aria-pressed", String(!erases));
      erase.setAttribute("aria-pressed", String(erases));
    };
    const paint = button("Paint", "brush", () => choose(false), { "aria-pressed": "true" });
    const erase = button("Erase", "eraser", () => choose(true), { "aria-pressed": "false" });
    const tools = [
      paint,
      erase,
      button("Invert", "invert", () => this.#change(() => this.#invert())),
      button("Clear", "trash", () => this.#change((pen) => pen.clearRect(0, 0, this.mask.width, this.mask.height))),
      button("Undo", "again", () => this.#back()),
    ];
    const use = button("Use this mask", "check", () => this.#finish(), { kind: "primary" });
    this.dialog.replaceChildren(
      el("h2", { id: "brush-title" }, "Paint what is drawn anew"),
      el("div", { class: "tools" }, tools),
      el("div", { class: "slide" }, el("label", { for: "brush-size" }, "Brush"), this.size),
      el("div", { class: "painting" }, this.view),
      el("p", { class: "hint", id: "brush-keys" }, "With the keyboard: arrow keys move, Space paints, Shift moves further."),
      el("div", { class: "act" }, use, button("Cancel", null, () => this.dialog.close())),
    );
  }

  #listen() {
    const { view } = this;
    const place = (event) => [event.offsetX * (view.width / view.clientWidth), event.offsetY * (view.height / view.clientHeight)];
    view.addEventListener("pointerdown", (event) => {
      view.setPointerCapture(event.pointerId);
      this.#remember();
      this.#last = place(event);
      this.#line(this.#last, this.#last);
      event.preventDefault();
    });
    view.addEventListener("pointermove", (event) => {
      if (!this.#last) return;
      const next = place(event);
      this.#line(this.#last, next);
      this.#last = next;
    });
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, () => (this.#last = null));
    view.addEventListener("keydown", (event) => this.#key(event));
    this.dialog.addEventListener("close", () => {
      this.dialog.replaceChildren();
      this.done(this.result);
    }, { once: true });
  }

  #key(event) {
    const way = KEYS[event.key];
    if (!way && event.key !== " ") return;
    event.preventDefault();
    const from = this.#at;
    const step = Math.max(1, this.#width / (event.shiftKey ? 0.5 : 2));
    if (way) this.#at = way.map((part, axis) => Math.min(Math.max(from[axis] + part * step, 0), [this.mask.width, this.mask.height][axis]));
    if (event.key === " ") this.#change(() => this.#stroke(from, from));
    this.#show();
    this.#cross();
  }

  // Of the brush, in pixels of the picture.
  get #width() {
    return Math.max(1, (Number(this.size.value) / 200) * Math.max(this.mask.width, this.mask.height));
  }

  #line(from, to) {
    this.#stroke(from, to);
    this.#show();
  }

  #stroke(from, to) {
    const pen = this.pen;
    pen.globalCompositeOperation = this.#erases ? "destination-out" : "source-over";
    Object.assign(pen, { lineWidth: this.#width, lineCap: "round", strokeStyle: "#fff" });
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(to[0], to[1] + (from === to ? 0.01 : 0));
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
  }

  #invert() {
    const pen = this.pen;
    pen.globalCompositeOperation = "source-out";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, this.mask.width, this.mask.height);
    pen.globalCompositeOperation = "source-over";
  }

  // A mask as requests have it: white, or transparent, is drawn anew.
  #take(mask) {
    const pen = this.pen;
    pen.drawImage(mask, 0, 0, this.mask.width, this.mask.height);
    const pixels = pen.getImageData(0, 0, this.mask.width, this.mask.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const [red, , , alpha] = pixels.data.subarray(at, at + 4);
      pixels.data.set([255, 255, 255, alpha < 128 || red >= 128 ? 255 : 0], at);
    }
    pen.putImageData(pixels, 0, 0);
  }

  #remember() {
    this.#undo.push(this.pen.getImageData(0, 0, this.mask.width, this.mask.height));
    if (this.#undo.length > MOST_STEPS) this.#undo.shift();
  }

  #change(work) {
    this.#remember();
    work(this.pen);
    this.#show();
  }

  #back() {
    const before = this.#undo.pop();
    if (before) this.pen.putImageData(before, 0, 0);
    this.#show();
  }

  #show() {
    const pen = this.view.getContext("2d");
    pen.globalAlpha = 1;
    pen.drawImage(this.image, 0, 0);
    const tint = this.#canvas();
    const ink = tint.getContext("2d");
    ink.drawImage(this.mask, 0, 0);
    ink.globalCompositeOperation = "source-in";
    ink.fillStyle = "#d3397b";
    ink.fillRect(0, 0, tint.width, tint.height);
    pen.globalAlpha = 0.55;
    pen.drawImage(tint, 0, 0);
  }

  // Where the keyboard's brush is.
  #cross() {
    const pen = this.view.getContext("2d");
    pen.globalAlpha = 1;
    for (const [colour, width] of [["#000", 3], ["#fff", 1]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: width * Math.max(1, this.view.width / 600) });
      pen.beginPath();
      pen.arc(...this.#at, this.#width / 2, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  #finish() {
    const pixels = this.pen.getImageData(0, 0, this.mask.width, this.mask.height).data;
    if (!pixels.some((value, at) => at % 4 === 3 && value > 0)) {
      announce("Nothing is painted");
      this.dialog.querySelector("#brush-keys").textContent = "Nothing is painted yet: paint over what should change.";
      return;
    }
    const flat = this.#canvas();
    const pen = flat.getContext("2d");
    pen.fillRect(0, 0, flat.width, flat.height);
    pen.drawImage(this.mask, 0, 0);
    flat.toBlob((blob) => {
      this.result = blob;
      this.dialog.close();
    }, "image/png");
  }
}
