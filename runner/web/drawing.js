// One drawing: the request, its events, and the time left.

import { Refused, events } from "./api.js";
import { randomId } from "./format.js";
import { keep } from "./pictures.js";

const PREVIEWS = 8;

// A recipe has the parameters by name, with pictures as blobs; empty values are left to the model.
export function request({ model, seed, references, mask, ...parameters }, images, masked) {
  const body = { model, previews: PREVIEWS, progress: true, images };
  if (masked) body.mask = masked;
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") body[name] = value;
  }
  return seed ? withSeed(body, seed) : body;
}

// A seed of 64 bits does not fit a JavaScript number: JSON.rawJSON writes its digits unchanged.
function withSeed(body, seed) {
  const number = Number(seed);
  return { ...body, seed: Number.isSafeInteger(number) ? number : (JSON.rawJSON?.(seed) ?? number) };
}

// Draw, store the pictures, and return them.
export async function draw(recipe, job) {
  const images = await Promise.all(recipe.references.map(base64));
  const masked = recipe.mask && (await base64(recipe.mask));
  const clock = new Clock();
  const found = [];
  for await (const event of events("completion", { body: request(recipe, images, masked), signal: job.signal, id: job.id })) {
    if (event.status === "loading") job.tell({ state: "loading", progress: event.progress });
    if (event.total && !event.done) {
      const left = clock.step(event.step ?? 0, event.total);
      job.tell({ state: "working", step: event.step ?? 0, total: event.total, left });
    }
    if (event.preview) job.tell({ preview: `data:image/png;base64,${event.preview}` });
    if (event.image) found.push(blob(event.image));
    if (event.done) return save(recipe, found, event);
  }
  throw new Refused("The response ended without a picture");
}

// By what one picture of several seeds, or of several variations, is drawn again.
function alone({ seeds, variations }, index, done) {
  if (!seeds && !variations) return {};
  const seed = String(done.seeds?.[index] ?? done.seed);
  return { seed, seeds: null, variations: variations && [variations[index % variations.length]], n: 1 };
}

async function save(recipe, blobs, done) {
  const made = { ...recipe, seed: String(done.seed), width: done.width, height: done.height };
  const seconds = (done.prompt_eval_duration + done.eval_duration + done.decode_duration) / 1e9;
  const about = { made: Date.now(), seconds, steps: done.total / blobs.length, batch: randomId() };
  // "Again" repeats the request, so size and steps are kept as they were requested.
  const requested = { width: recipe.width, height: recipe.height, steps: recipe.steps };
  const pictures = blobs.map((picture, index) => ({
    id: randomId(), blob: picture, index, recipe: { ...made, ...requested, ...alone(recipe, index, done) }, size: [done.width, done.height], ...about,
    warnings: done.warnings ?? [],
  }));
  for (const picture of pictures) await keep(picture);
  return pictures;
}

// Estimates the seconds left from the steps after the first, which includes encoding the prompt and compiling.
export class Clock {
  #first = null; // the first completed step, and when

  step(step, total) {
    const now = performance.now();
    if (!this.#first) {
      if (step) this.#first = { step, now };
      return null;
    }
    const steps = step - this.#first.step;
    return steps > 0 ? ((now - this.#first.now) / 1000 / steps) * (total - step) : null;
  }
}

// The picture of a text in base64.
export function blob(text) {
  const letters = atob(text);
  return new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

export function base64(picture) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refused("An input picture could not be read; add it again"));
    reader.readAsDataURL(picture);
  });
}
