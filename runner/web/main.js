// Puts the page together: views by their addresses (#draw, #chat, …), and what they share.

import { Board } from "./board.js";
import { Chat } from "./chat.js";
import { $, announce, button, fillIcons } from "./dom.js";
import { bytes, plural } from "./format.js";
import { Gallery } from "./gallery.js";
import { Hub } from "./hub.js";
import { jobs } from "./jobs.js";
import { machine } from "./machine.js";
import { showModels } from "./models.js";
import { showQueue } from "./queue.js";
import { serverJobs } from "./server_jobs.js";
import { SettingsView, applyTheme } from "./settings.js";
import { Stage } from "./stage.js";

const VIEWS = ["draw", "chat", "gallery", "models", "queue", "settings"];

applyTheme();
fillIcons(document);
if (/Mac|iP(hone|ad)/.test(navigator.platform)) document.querySelector(".keys kbd").textContent = "⌘";
const board = new Board();
const stage = new Stage($("stage"), board);
const gallery = new Gallery(board, () => go("draw"));
board.begun = (job) => stage.show(job);
const chat = new Chat();
const hub = new Hub();
const settings = new SettingsView();
chat.draws = (text) => {
  go("draw");
  $("prompt").value = text;
  $("prompt").focus();
};
serverJobs.adopted = (job) => stage.show(job);
serverJobs.watch();

function current() {
  const view = location.hash.slice(1);
  return VIEWS.includes(view) ? view : "draw";
}

// Routes at once: hidden elements cannot take focus.
function go(view) {
  history.pushState(null, "", `#${view}`);
  route(true);
}

function route(moved) {
  const here = current();
  for (const view of VIEWS) {
    $(`view-${view}`).hidden = view !== here;
    const link = document.querySelector(`.tabs a[href="#${view}"]`);
    if (view === here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = here;
  const title = $(`${here}-title`).textContent;
  document.title = `${title} · Diptych`;
  if (moved) {
    announce(title);
    scrollTo(0, 0);
  }
  if (here === "chat") chat.focus();
  if (here === "gallery") gallery.show();
  if (here === "models") hub.look();
  if (here === "settings") settings.show();
  if (here === "models") machine.look();
  else if (here === "queue") machine.ask();
}

function tell() {
  const { fault } = machine;
  const notice = $("notice");
  const said = fault ? fault.message : "";
  if (notice.dataset.said !== said) {
    notice.dataset.said = said;
    notice.hidden = !said;
    const again = fault?.status === 401 ? "Enter the key" : "Try again";
    notice.replaceChildren(said, button(again, null, () => machine.look()));
  }
  $("machine").textContent = machine.budget
    ? `${bytes(machine.memory)} of ${bytes(machine.budget)} of memory used`
    : "";
}

function count() {
  const going = jobs.going.length;
  $("queue-count").hidden = !going;
  $("queue-count").textContent = going || "";
  if (going) $("queue-count").setAttribute("aria-label", plural(going, "job"));
}

machine.watched = () => jobs.going.length > 0 || ["models", "queue"].includes(current());
machine.browsed = () => current() === "models";
machine.addEventListener("change", tell);
machine.addEventListener("change", () => {
  showModels($("models"), go, board.choice, chat.choice);
  showQueue($("queue"));
});
jobs.addEventListener("change", count);
jobs.addEventListener("change", () => showQueue($("queue")));
window.addEventListener("hashchange", () => route(true));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
document.addEventListener("visibilitychange", () => !document.hidden && machine.ask());
// Unfinished work would be lost with the page.
window.addEventListener("beforeunload", (event) => jobs.going.some((job) => !job.stays) && event.preventDefault());
showModels($("models"), go, board.choice, chat.choice);
showQueue($("queue"));
route(false);
machine.look();
