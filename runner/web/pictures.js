// The pictures that were drawn, wherever they are kept: by the gateway, or in this browser.

import { fetched } from "./api.js";
import * as here from "./browser_pictures.js";
import { el } from "./dom.js";
import { keyed } from "./key.js";
import { HAS_GALLERY } from "./parameters.js";
import * as there from "./server_pictures.js";

export { isKept } from "./browser_pictures.js";
export const changes = new EventTarget();

// Other tabs announce their changes.
const tabs = new BroadcastChannel("diptych-pictures");

function changed(detail) {
  here.forgetCached();
  changes.dispatchEvent(new CustomEvent("change", { detail }));
}

export function tell(detail = {}) {
  tabs.postMessage(detail);
  changed(detail);
}

tabs.addEventListener("message", ({ data }) => changed(data ?? {}));

export const isHere = (picture) => Boolean(picture.blob);

// Keeps a picture in this browser, or restores one that the gateway kept.
export async function keep(picture) {
  if (isHere(picture)) await here.put(picture);
  else await there.change(picture.id, { deleted: false });
  tell();
}

export async function remove(picture) {
  try {
    if (isHere(picture)) await here.take(picture.id);
    else await there.change(picture.id, { deleted: true });
  } finally {
    tell({ removed: picture.id });
  }
}

export async function mark(picture, favourite) {
  picture.favourite = favourite;
  if (isHere(picture)) await here.put(picture);
  else await there.change(picture.id, { favourite });
  tell();
}

// The newest that match: {pictures, more, total, here: how many of them are in this browser only}. Those of this browser
// come behind the gateway's.
export async function find({ search = "", favourites = false, before = null, limit }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = ({ recipe, favourite }) => (!favourites || favourite) && words.every((word) => recipe.prompt.toLowerCase().includes(word));
  const mine = (await here.all()).filter(matches);
  const started = before && isHere(before);
  const none = { pictures: [], more: false, total: 0 };
  const found = HAS_GALLERY && !started ? await there.find({ search, favourites, before: before?.id, limit }) : none;
  const begin = started ? mine.findIndex((picture) => picture.id === before.id) + 1 : 0;
  const rest = found.more ? [] : mine.slice(begin, begin + Math.max(0, limit - found.pictures.length));
  return {
    pictures: [...found.pictures, ...rest],
    more: found.more || begin + rest.length < mine.length,
    total: found.total + mine.length,
    here: mine.length,
    bytes: found.bytes ?? 0,
  };
}

export const latest = async (limit) => (await find({ limit })).pictures;

export const blobOf = (picture) => (isHere(picture) ? Promise.resolve(picture.blob) : fetched(picture.file));

// The recipe with its input pictures, as the form takes it.
export async function wholeRecipe({ recipe, references, mask, ...picture }) {
  if (isHere(picture)) return recipe;
  const inputs = await Promise.all(references.map((name) => fetched(there.inputPlace(name))));
  return { ...recipe, references: inputs, mask: mask ? await fetched(there.inputPlace(mask)) : null };
}

// Object URLs of pictures and files, one each, as long as the page.
const addresses = new Map();

function address(name, blob) {
  if (!addresses.has(name)) addresses.set(name, URL.createObjectURL(blob));
  return addresses.get(name);
}

// Where a file of the gateway's can be shown or downloaded from: browsers send no key with an image or a link.
async function source(path) {
  if (!keyed().Authorization) return path;
  return addresses.get(path) ?? address(path, await fetched(path));
}

// <img> of a picture; small ones load when they are seen.
export function imageOf(picture, alt, small = false) {
  const image = el("img", { alt, loading: small ? "lazy" : null });
  if (isHere(picture)) image.src = address(picture.id, picture.blob);
  else if (small && keyed().Authorization) seen.observe(Object.assign(image, { waits: picture.thumbnail }));
  else source(small ? picture.thumbnail : picture.file).then((url) => (image.src = url), () => (image.alt = `${alt} (not available)`));
  return image;
}

// Those that need a key are fetched when they come into view.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    source(target.waits).then((url) => (target.src = url), () => undefined);
  }
});

export const inputImage = (name, alt) => {
  const image = el("img", { alt });
  source(there.inputPlace(name)).then((url) => (image.src = url), () => undefined);
  return image;
};

export async function download(picture, name) {
  save(isHere(picture) ? address(picture.id, picture.blob) : await source(picture.file), name);
}

// All pictures of the gateway that match, in one file.
export async function downloadAll(wanted) {
  const path = there.archive(wanted);
  const url = keyed().Authorization ? URL.createObjectURL(await fetched(path)) : path;
  save(url, "pictures.zip");
  if (url !== path) setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function save(url, name) {
  const link = el("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
}

changes.addEventListener("change", ({ detail }) => {
  if (!addresses.has(detail.removed)) return;
  URL.revokeObjectURL(addresses.get(detail.removed));
  addresses.delete(detail.removed);
});
