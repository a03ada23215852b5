// The parameters of a picture as the gateway describes them, and their fields in the form. A parameter without a field in
// index.html gets one here.

import { $, complain, el } from "./dom.js";
import { number } from "./sizes.js";

export const { parameters, most_images: MOST_IMAGES, gallery: HAS_GALLERY } = await (await fetch("page/parameters.json")).json();

// Lists are written with commas between their items.
const LISTS = {
  adapters: {
    example: "name:0.8, another",
    item: (text) => {
      const [, name, scale] = text.match(/^(.+):([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))$/) ?? [null, text, "1"];
      return { name, scale: Number(scale) };
    },
    written: ({ name, scale = 1 }) => (scale === 1 ? name : `${name}:${scale}`),
  },
  integers: { example: "1, 2, 3", item: Number, written: String, valid: /^[0-9]{1,15}$/, needed: "whole numbers with commas between them are" },
  variations: {
    example: "7:0.1, 7:0.3",
    item: (text) => {
      const [seed, strength] = text.split(":").map(Number);
      return { seed, strength };
    },
    written: ({ seed, strength }) => `${seed}:${strength}`,
    valid: /^[0-9]{1,15}:(?:[0-9]+\.?[0-9]*|\.[0-9]+)$/,
    needed: "seeds with strengths, such as 7:0.2, are",
  },
};

export class Parameters {
  #fields = new Map(); // those made here, by name
  #unsupported = new Set();

  constructor(form) {
    this.form = form;
    for (const parameter of parameters) {
      if (!this.#input(parameter)) this.#add(parameter);
      limit(this.#input(parameter), parameter);
    }
  }

  #add(parameter) {
    const made = field(parameter);
    this.#fields.set(parameter.name, made);
    $(`${parameter.group}-parameters`).append(made);
  }

  // Hides what has no effect on the model; `names` have, or all where that is not known.
  support(names) {
    for (const [name, made] of this.#fields) {
      made.hidden = Boolean(names) && !names.includes(name);
      if (made.hidden) this.#unsupported.add(name);
      else this.#unsupported.delete(name);
    }
    $("more-parameters").hidden = !$("more-parameters").querySelector(":scope > :not(summary, [hidden])");
  }

  // By name; null where the model decides.
  get values() {
    const supported = parameters.filter(({ name }) => !this.#unsupported.has(name));
    return Object.fromEntries(supported.map((parameter) => [parameter.name, read(this.#input(parameter), parameter)]));
  }

  set values(recipe) {
    for (const { name, type, default: usual } of parameters) {
      const input = this.#input({ name });
      const value = recipe[name] ?? usual;
      if (type === "boolean") input.checked = value;
      else if (type in LISTS) input.value = (value ?? []).map(LISTS[type].written).join(", ");
      else if (input.type !== "range" || value !== null) input.value = value ?? "";
    }
  }

  // The first input that breaks a limit, and what is allowed; null where there is none.
  get fault() {
    for (const parameter of parameters) {
      const input = this.#input(parameter);
      const text = input.closest("[hidden]") ? null : faultOf(input, parameter);
      if (text) return { input, text };
    }
    return null;
  }

  // Shows at its field what the gateway says of a parameter ("width: 9000 is not allowed; …"); whether there is such a field.
  refuse(message) {
    const [, name, said] = /^(\w+): (.+)$/s.exec(message) ?? [];
    const parameter = parameters.find((one) => one.name === name?.toLowerCase());
    const input = parameter && this.#input(parameter);
    if (!input || input.closest("[hidden]")) return false;
    complain(input, `${parameter.label}: ${said}`);
    return true;
  }

  #input({ name }) {
    return this.form.elements.namedItem(name);
  }
}

function field({ name, type, label, hint, group }) {
  const id = `parameter-${name}`;
  const about = hint && `${hint[0].toUpperCase()}${hint.slice(1)}.`;
  if (type === "boolean") return el("label", { class: "check", title: about }, el("input", { type: "checkbox", name, id }), label);
  const main = group === "main";
  const described = { name, id, title: main && about, "aria-describedby": !main && `${id}-hint` };
  const input = type === "text" ? el("textarea", { rows: 2, ...described }) : el("input", described);
  const under = !main && el("p", { class: "hint", id: `${id}-hint` }, about);
  return el("div", { class: type === "text" ? "field" : "field narrow" }, el("label", { for: id }, label), input, under);
}

// The limits and the default of an input. Numbers that the model may choose are texts, so that they can be left empty.
function limit(input, { type, default: usual, least, most }) {
  if (type === "boolean") {
    input.checked = usual;
  } else if (input.type === "range") {
    Object.assign(input, { min: Math.max(least, input.step), max: most });
  } else if (usual !== null) {
    if (type !== "text") Object.assign(input, { type: "number", min: least, max: most, step: type === "integer" ? 1 : "any" });
    input.value = usual;
  } else if (type in LISTS) {
    input.placeholder = LISTS[type].example;
  } else if (type !== "text") {
    input.inputMode = type === "integer" ? "numeric" : "decimal";
    input.placeholder ||= "Auto";
  }
}

function read(input, { type }) {
  if (type === "boolean") return input.checked;
  if (type in LISTS) return listed(input.value, LISTS[type]);
  return type === "text" ? input.value.trim() || null : number(input);
}

const items = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);

function listed(text, { item }) {
  const found = items(text);
  return found.length ? found.map(item) : null;
}

export function written(values, { type }) {
  return values.map(LISTS[type].written).join(", ");
}

function faultOf(input, { type, label, least, most }) {
  if (type in LISTS) {
    const { valid, needed } = LISTS[type];
    const wrong = valid && items(input.value).find((one) => !valid.test(one));
    return wrong ? `${label}: ${wrong} is not allowed; ${needed} needed.` : "";
  }
  if (type === "boolean" || type === "text") return "";
  const text = input.value.trim();
  if (!text && !input.validity.badInput) return "";
  const value = Number(text);
  const right = text && (type === "integer" ? /^-?[0-9]+$/.test(text) : Number.isFinite(value));
  if (right && (most === null || (least <= value && value <= most))) return "";
  const needed = `${type === "integer" ? "a whole number" : "a number"}${most === null ? "" : ` from ${least} to ${most}`}`;
  return `${label}: ${text ? `${text} is not allowed; ` : ""}${needed} is needed.`;
}
