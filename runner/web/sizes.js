// Sizes of pictures, as chips: the model's own, some ratios at about the same area, and a custom size.

import { el } from "./dom.js";

const SHAPES = [
  ["Auto", null],
  ["Square", [1, 1]],
  ["Portrait", [3, 4]],
  ["Landscape", [4, 3]],
  ["Wide", [16, 9]],
  ["Custom", "custom"],
];
const MULTIPLE = 16;
const USUAL = 1024;

export function sized(ratio, side) {
  const scale = side / Math.sqrt(ratio[0] * ratio[1]);
  return ratio.map((part) => Math.max(MULTIPLE, Math.round((part * scale) / MULTIPLE) * MULTIPLE));
}

export class Sizes {
  constructor(chips, custom, width, height) {
    Object.assign(this, { chips, custom, width, height, side: USUAL });
    chips.append(...SHAPES.map(([label], index) => this.#chip(label, index)));
    this.#choose(0);
  }

  // The side of the pictures that the model was trained on.
  made(side) {
    this.side = side ?? USUAL;
    this.chips.querySelectorAll("input").forEach((input, index) => {
      const ratio = SHAPES[index][1];
      if (Array.isArray(ratio)) input.parentElement.title = sized(ratio, this.side).join(" × ");
    });
  }

  // [width, height]; null where the model decides.
  get value() {
    const shape = SHAPES[this.#chosen][1];
    if (shape === null) return [null, null];
    return shape === "custom" ? [number(this.width), number(this.height)] : sized(shape, this.side);
  }

  set value([width, height]) {
    const same = (shape) => Array.isArray(shape) && sized(shape, this.side).join() === [width, height].join();
    const index = width || height ? SHAPES.findIndex(([, shape]) => same(shape)) : 0;
    this.width.value = width ?? "";
    this.height.value = height ?? "";
    this.#choose(index < 0 ? SHAPES.length - 1 : index);
  }

  get #chosen() {
    return Number(this.chips.querySelector("input:checked").value);
  }

  #choose(index) {
    this.chips.querySelectorAll("input")[index].checked = true;
    this.#show();
  }

  #show() {
    const custom = SHAPES[this.#chosen][1] === "custom";
    this.custom.hidden = !custom;
    if (custom && !this.width.value) this.width.value = this.height.value = this.side;
  }

  #chip(label, index) {
    const input = el("input", { type: "radio", name: "shape", value: String(index), on: { change: () => this.#show() } });
    return el("label", { class: "chip" }, input, el("span", {}, label));
  }
}

// The value of a field: a number, null, or a text that the gateway will refuse by name.
export function number(input) {
  const text = input.value.trim();
  if (!text) return null;
  return Number.isNaN(Number(text)) ? text : Number(text);
}
