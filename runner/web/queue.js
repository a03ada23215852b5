// Jobs: those of this page, with a way to stop them, and the load of the whole gateway.

import { button, el } from "./dom.js";
import { plural, short } from "./format.js";
import { GOING, jobs } from "./jobs.js";
import { machine } from "./machine.js";
import { progress } from "./stage.js";

export function showQueue(root) {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.job : null;
  const going = jobs.going;
  const over = jobs.list.filter((job) => !GOING.includes(job.state)).reverse();
  root.replaceChildren(
    el("h2", {}, "From this page"),
    going.length ? el("ol", { class: "rows" }, ...going.map(row)) : el("p", { class: "hint" }, "No jobs."),
    el("h2", {}, "All clients of the gateway"),
    everybody(),
    ...(over.length ? [el("h2", {}, "Recently finished"), el("ul", { class: "rows light" }, ...over.map(row))] : []),
  );
  if (focused) root.querySelector(`[data-job="${focused}"]`)?.focus();
}

function row(job) {
  const going = GOING.includes(job.state);
  const state = going ? (job.kind === "draw" ? progress(job) : job.note || job.state) : job.note || job.state;
  const stop = going ? button("Stop", "stop", () => job.stop(), { "data-job": job.id, "aria-label": `Stop: ${job.title.slice(0, 80)}` }) : null;
  const about = el("div", {}, el("p", { class: "name" }, job.title), el("p", { class: "hint" }, `${short(job.model)} · ${state}`));
  return el("li", { class: "row-item" }, about, stop);
}

function everybody() {
  const busy = machine.loaded.filter((model) => model.active || model.queue);
  const waiting = machine.waiting ? `${plural(machine.waiting, "request")} waiting for a model to load.` : "";
  if (!busy.length && !waiting) return el("p", { class: "hint" }, "Idle.");
  const items = busy.map((model) => {
    const queue = model.queue ? `, ${plural(model.queue, "request")} waiting for it to load` : "";
    const said = `${plural(model.active, "request")} running${queue}`;
    return el("li", { class: "row-item" }, el("div", {}, el("p", { class: "name" }, short(model.name)), el("p", { class: "hint" }, said)));
  });
  return el("div", {}, el("ul", { class: "rows" }, ...items), waiting && el("p", { class: "hint" }, waiting));
}
