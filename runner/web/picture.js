// A picture at full size, its recipe, and the actions on it.

import { $, button, el, offerUndo } from "./dom.js";
import { parameters, written } from "./parameters.js";
import { download, imageOf, inputImage, isHere, keep, mark, remove } from "./pictures.js";

// Parameters that the recipe shows in places of their own.
const PLACED = ["prompt", "negative_prompt", "width", "height", "steps", "seed", "n"];

// The form and the way to its view; the gallery sets them.
export const hands = { board: null, go: () => undefined, failed: () => undefined };

export function actions(picture, over = () => undefined) {
  const onBoard = (what) => () => {
    over();
    hands.go();
    hands.board[what](picture).catch((error) => hands.failed(error.message));
  };
  const away = async () => {
    over();
    await remove(picture);
    offerUndo("Deleted", () => keep(picture));
  };
  return [
    button("Again", "again", onBoard("again"), { title: "Draw the same picture again" }),
    button("Vary", "vary", onBoard("vary"), { title: "Draw it with another seed" }),
    button("Edit this", "edit", onBoard("edit"), { title: "Use it as the input picture" }),
    favourite(picture),
    button("Download", "download", () => download(picture, fileName(picture)), { bare: true }),
    button("Delete", "trash", away, { bare: true }),
  ];
}

function favourite(picture) {
  const named = () => (picture.favourite ? "Remove from favourites" : "Add to favourites");
  const made = button(named(), "star", () => {
    mark(picture, !picture.favourite).catch((error) => hands.failed(error.message));
    made.setAttribute("aria-pressed", String(Boolean(picture.favourite)));
    made.title = named();
  }, { bare: true, "aria-label": "Favourite", "aria-pressed": String(Boolean(picture.favourite)) });
  return made;
}

// Opens a picture; the arrow keys move through `others`.
export function openPicture(picture, others = []) {
  const dialog = $("picture");
  show(picture);
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.onkeydown = ({ key }) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const next = way && others[others.indexOf(picture) + way];
    if (next) show((picture = next));
  };
  dialog.showModal();
}

function show(picture) {
  const dialog = $("picture");
  const close = button("Close", "close", () => dialog.close(), { bare: true, class: "quiet icon close", autofocus: true });
  const image = imageOf(picture, picture.recipe.prompt);
  const about = el("div", { class: "about" },
    el("h2", { id: "picture-title" }, "Recipe"),
    recipe(picture),
    el("div", { class: "tools" }, ...actions(picture, () => dialog.close())),
  );
  dialog.replaceChildren(el("div", { class: "frame" }, image), about, close);
  close.focus();
}

function recipe(picture) {
  const made = picture.recipe;
  const [width, height] = picture.size;
  const rows = {
    Prompt: made.prompt,
    "Negative prompt": made.negative_prompt,
    Model: made.model,
    Size: `${width} × ${height}`,
    Steps: String(picture.steps),
    Seed: made.seed,
  };
  for (const parameter of parameters) {
    const { name, label } = parameter;
    const value = Array.isArray(made[name]) ? written(made[name], parameter) : made[name];
    if (!PLACED.includes(name) && value !== false) rows[label] = value === true ? "yes" : value;
  }
  rows.Picture = made.n > 1 ? `${picture.index + 1} of ${made.n}` : null;
  rows.Drawn = new Date(picture.made).toLocaleString();
  const list = el("dl", { class: "recipe" });
  for (const [name, value] of Object.entries(rows)) {
    if (value !== null && value !== undefined && value !== "") list.append(el("dt", {}, name), el("dd", {}, String(value)));
  }
  const { references, mask } = isHere(picture) ? made : picture;
  const shown = isHere(picture) ? small : inputImage;
  if (references.length) list.append(el("dt", {}, "Input pictures"), el("dd", { class: "from" }, ...references.map((one) => shown(one, "An input picture"))));
  if (mask) list.append(el("dt", {}, "Mask"), el("dd", { class: "from" }, shown(mask, "The mask")));
  return list;
}

function small(blob, alt) {
  const url = URL.createObjectURL(blob);
  const image = el("img", { src: url, alt });
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  return image;
}

export function fileName(picture) {
  const words = picture.recipe.prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  return `${words.join("-").slice(0, 60)}-${picture.recipe.seed}.${picture.format ?? "png"}`;
}
