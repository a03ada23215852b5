// The form for drawing: its fields are a recipe.

import { Choice } from "./choice.js";
import { draw } from "./drawing.js";
import { $, complain } from "./dom.js";
import { randomSeed } from "./format.js";
import { jobs } from "./jobs.js";
import { machine } from "./machine.js";
import { Mask } from "./mask.js";
import { HAS_GALLERY, MOST_IMAGES, Parameters } from "./parameters.js";
import { blobOf, wholeRecipe } from "./pictures.js";
import { References } from "./references.js";
import { serverJobs } from "./server_jobs.js";
import { Sizes } from "./sizes.js";

export class Board {
  begun = () => undefined; // called with each new job
  #waits = false; // for the list of models, with a drawing to begin

  constructor() {
    this.choice = new Choice($("draw-model"), "draw");
    this.parameters = new Parameters($("board"));
    this.references = new References($("view-draw"));
    this.mask = new Mask();
    this.sizes = new Sizes($("shapes"), $("custom-size"), $("width"), $("height"));
    this.choice.addEventListener("change", () => this.#fit());
    machine.addEventListener("change", () => this.#fit());
    this.#listen();
    this.#showStrength();
  }

  #listen() {
    $("board").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    $("board").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.submit();
      }
    });
    $("dice").addEventListener("click", () => this.#seed(String(randomSeed())));
    $("no-seed").addEventListener("click", () => {
      this.#seed("");
      $("seed").focus();
    });
    $("seed").addEventListener("input", () => this.#seed($("seed").value));
    $("prompt").addEventListener("input", () => hint(""));
    $("start").addEventListener("change", () => this.#showStrength());
    $("strength").addEventListener("input", () => this.#showStrength());
    this.references.addEventListener("change", () => this.#showStrength());
    for (const files of [this.references, this.mask]) files.addEventListener("fault", () => hint(files.fault));
  }

  #fit() {
    const { model } = this.choice;
    this.sizes.made(model?.side);
    this.parameters.support(model?.supported_parameters);
    this.references.most = Math.max(1, model?.max_references ?? MOST_IMAGES);
    $("references-label").textContent = this.edits ? "Pictures to edit or start from" : "Picture to start from";
    $("sample-hint").hidden = !model?.sample;
    this.#showStrength();
  }

  // Whether the model looks at pictures while it draws; others only start from one.
  get edits() {
    return this.choice.model?.max_references !== 0;
  }

  get starts() {
    return $("start").checked || !this.edits;
  }

  get recipe() {
    const [width, height] = this.sizes.value;
    const { blobs } = this.references;
    const values = this.parameters.values;
    return {
      model: this.choice.select.value,
      ...values,
      width,
      height,
      seed: $("seed").value.trim(),
      strength: blobs.length && this.starts ? values.strength : null,
      references: [...blobs],
      mask: blobs.length ? this.mask.blob : null,
    };
  }

  set recipe(recipe) {
    this.choice.choose(recipe.model);
    this.parameters.values = recipe;
    this.sizes.value = [recipe.width, recipe.height];
    $("start").checked = recipe.strength !== null && recipe.strength !== undefined;
    this.references.set(recipe.references ?? []);
    this.mask.set(recipe.mask ?? null);
    this.#seed(recipe.seed ?? "");
  }

  submit() {
    const { recipe } = this;
    if (!recipe.prompt) {
      hint("Describe the picture first.");
      $("prompt").focus();
      return;
    }
    if (!recipe.model) {
      this.#withoutModel();
      return;
    }
    if (recipe.seed && !/^[0-9]+$/.test(recipe.seed)) {
      complain($("seed"), "The seed must be a whole number; leave it empty for a random one.");
      return;
    }
    const { fault } = this.parameters;
    if (fault) {
      complain(fault.input, fault.text);
      return;
    }
    hint("");
    this.draw(recipe);
  }

  // None on this machine, or the list has not arrived: then what was asked for begins when it has.
  #withoutModel() {
    if (machine.known && !this.choice.models.length) {
      hint("There is no picture model on this machine. See “Models” for how to get one.");
      return;
    }
    hint("The list of models is still loading …");
    if (this.#waits) return;
    this.#waits = true;
    const again = () => {
      this.#waits = false;
      this.submit();
    };
    machine.addEventListener("change", again, { once: true });
  }

  try(prompt) {
    $("prompt").value = prompt;
    this.submit();
  }

  draw(recipe) {
    const job = jobs.add("draw", recipe.prompt, recipe.model, (one) => (HAS_GALLERY ? serverJobs.draw(recipe, one) : draw(recipe, one)));
    job.recipe = recipe;
    job.done.catch((error) => {
      job.refused = error.status === 400 && this.parameters.refuse(error.message);
    });
    this.begun(job);
  }

  // The same picture again; `vary` takes another seed.
  async again(picture) {
    this.recipe = await wholeRecipe(picture);
    this.draw(this.recipe);
  }

  async vary(picture) {
    this.recipe = { ...(await wholeRecipe(picture)), seed: "" };
    this.draw({ ...this.recipe, seed: String(randomSeed()) });
  }

  async edit(picture) {
    const { model } = picture.recipe;
    this.recipe = { model, references: [await blobOf(picture)] };
    hint("Describe the change, such as: make the circle green.");
    $("prompt").focus();
  }

  #seed(text) {
    if ($("seed").value !== text) $("seed").value = text;
    $("no-seed").hidden = !text;
  }

  #showStrength() {
    $("strength-field").hidden = !this.references.blobs.length;
    this.mask.picture = this.references.blobs[0] ?? null;
    this.mask.shown = this.references.blobs.length > 0;
    $("start-field").hidden = !this.edits;
    $("strength-slide").hidden = !this.starts;
    $("strength-value").textContent = $("strength").value;
  }
}

function hint(text) {
  $("prompt-hint").textContent = text;
  $("prompt-hint").hidden = !text;
}
