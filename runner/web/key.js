// The gateway's key: asked for when it is needed, kept until the tab is closed.

import { $ } from "./dom.js";
import { forTab } from "./store.js";

const PLACE = "diptych-key";
let asking = null;

export function keyed() {
  const key = forTab.get(PLACE);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// The key that was refused, unless another has come in the meantime.
export function forget(header) {
  if (header && header === keyed().Authorization) forTab.remove(PLACE);
}

// Whether there is a key now. Many may ask at once; they share one dialog.
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
  $("key-fault").textContent = refused ? "That key is not one that this gateway knows." : "";
  input.value = "";
  return new Promise((answer) => {
    const listening = new AbortController();
    const { signal } = listening;
    const finish = (key) => {
      listening.abort();
      // Headers hold Latin letters only; anything else is no key of any gateway.
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
