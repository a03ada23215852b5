// Pictures that the gateway keeps.

import { call } from "./api.js";

const place = (id) => `gallery/${encodeURIComponent(id)}`;

// As the rest of the page has pictures.
export function adapted(picture) {
  return { ...picture, made: picture.made * 1000, size: [picture.width, picture.height], file: `${place(picture.id)}/picture`, thumbnail: `${place(picture.id)}/thumbnail` };
}

function query({ search = "", favourites = false, before = "", limit }) {
  const given = Object.entries({ search, favourites: favourites && "true", before, limit }).filter(([, value]) => value);
  return new URLSearchParams(given).toString();
}

export async function find(wanted) {
  const found = await call(`gallery?${query(wanted)}`, { ask: false });
  return { ...found, pictures: found.pictures.map(adapted) };
}

export const archive = (wanted) => `gallery/zip?${query(wanted)}`;
export const inputPlace = (name) => `gallery/inputs/${name}`;
export const change = (id, changes) => call(place(id), { body: changes });
