// One drawing on its way: what is sent, what the events come to, what is left to do.

import { Refused, events } from "./api.js";
import { randomId } from "./format.js";
import { keep } from "./pictures.js";

const PREVIEWS = 8;

// A recipe is what the board says, with pictures as blobs; empty is the model's choice.
export function request(recipe, images) {
  const { model, prompt, negative, width, height, steps, seed, guidance, strength, count } = recipe;
  const body = { model, prompt, n: count, previews: PREVIEWS, progress: true, images };
  const optional = { negative_prompt: negative, width, height, steps, guidance, strength };
  for (const [name, value] of Object.entries(optional)) {
    if (value !== null && value !== undefined && value !== "") body[name] = value;
  }
  return seed ? withSeed(body, seed) : body;
}

// 64 bits are more than a JavaScript number holds: JSON.stringify writes such a seed as it stands.
function withSeed(body, seed) {
  const number = Number(seed);
  return { ...body, seed: Number.isSafeInteger(number) ? number : (JSON.rawJSON?.(seed) ?? number) };
}

// Draws, keeps the pictures, and returns them.
export async function draw(recipe, job) {
  const images = await Promise.all(recipe.references.map(base64));
  const clock = new Clock();
  const found = [];
  for await (const event of events("completion", { body: request(recipe, images), signal: job.signal, id: job.id })) {
    if (event.status === "loading") job.tell({ state: "loading", progress: event.progress });
    if (event.total && !event.done) {
      const left = clock.step(event.step ?? 0, event.total);
      job.tell({ state: "working", step: event.step ?? 0, total: event.total, left });
    }
    if (event.preview) job.tell({ preview: `data:image/png;base64,${event.preview}` });
    if (event.image) found.push(blob(event.image));
    if (event.done) return save(recipe, found, event);
  }
  throw new Refused("The drawing ended without a picture");
}

async function save(recipe, blobs, done) {
  const made = { ...recipe, seed: String(done.seed), width: done.width, height: done.height };
  const seconds = (done.prompt_eval_duration + done.eval_duration + done.decode_duration) / 1e9;
  const about = { made: Date.now(), seconds, steps: done.total / blobs.length, batch: randomId() };
  // The sizes and steps that were asked for stay: "again" asks for the same.
  const asked = { width: recipe.width, height: recipe.height, steps: recipe.steps };
  const pictures = blobs.map((picture, index) => ({
    id: randomId(), blob: picture, index, recipe: { ...made, ...asked }, size: [done.width, done.height], ...about,
    warnings: done.warnings ?? [],
  }));
  for (const picture of pictures) await keep(picture);
  return pictures;
}

// Seconds that are left, by the steps that are done. The prompt is read before the first one: later ones say more.
class Clock {
  #began = performance.now();
  #counted = 0;

  step(step, total) {
    const now = performance.now();
    const left = step > this.#counted ? ((now - this.#began) / 1000 / (step - this.#counted)) * (total - step) : null;
    if (step < 2) [this.#began, this.#counted] = [now, step];
    return left;
  }
}

function blob(text) {
  const letters = atob(text);
  return new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

function base64(picture) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refused("A picture could not be read; add it again"));
    reader.readAsDataURL(picture);
  });
}
