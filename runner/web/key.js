// The API key: asked for when it is needed, kept until the tab is closed.

import { $ } from "./dom.js";
import { forTab } from "./store.js";

const PLACE = "diptych-key";
let asking = null;

export function keyed() {
  const key = forTab.get(PLACE);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export const hasKey = () => Boolean(forTab.get(PLACE));
export const forgetKey = () => forTab.remove(PLACE);

// Drop the key that was refused, unless there is a new one by now.
export function forget(header) {
  if (header && header === keyed().Authorization) forTab.remove(PLACE);
}

// Ask for a key; whether there is one now. Concurrent callers share one dialog.
export function obtain(refused) {
  if (forTab.get(PLACE)) return Promise.resolve(true);
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(refused) {
  const dialog = $("key");
  const input = $("key-input");
  $("key-fault").hidden = !refused;
  $("key-fault").textContent = refused ? "This key is not valid for this gateway." : "";
  input.value = "";
  return new Promise((answer) => {
    const listening = new AbortController();
    const { signal } = listening;
    const finish = (key) => {
      listening.abort();
      // A header takes only ASCII; a key with other characters cannot be valid.
      if (key) forTab.set(PLACE, key.replace(/[^\x20-\x7e]/g, "?"));
      dialog.close();
      answer(Boolean(key));
    };
    const submit = (event) => {
      event.preventDefault();
      finish(input.value.trim());
    };
    $("key-form").addEventListener("submit", submit, { signal });
    $("key-cancel").addEventListener("click", () => finish(""), { signal });
    dialog.addEventListener("cancel", () => finish(""), { signal });
    dialog.showModal();
    input.focus();
  });
}
