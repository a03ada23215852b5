// Conversations, kept in this browser (IndexedDB): what people write to a model is more private than what they draw, so the
// gateway, which others may use, does not keep it.

import { forTab } from "./store.js";

const NAME = "diptych-chats";
const STORE = "conversations";
const CURRENT = "diptych-conversation";
const MOST = 500; // then the oldest are dropped
const unkept = new Map(); // where the browser stores nothing
let opened = null;

function open() {
  opened ??= new Promise((resolve) => {
    let request;
    try {
      request = indexedDB.open(NAME, 1);
    } catch {
      resolve(null);
      return;
    }
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("changed", "changed");
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  });
  return opened;
}

async function within(mode, work) {
  const database = await open();
  if (!database) throw new DOMException("no database", "NotFoundError");
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

// All, the last changed first.
export async function list() {
  const kept = await within("readonly", (store) => store.index("changed").getAll()).catch(() => []);
  return [...kept, ...unkept.values()].sort((one, other) => other.changed - one.changed);
}

export async function keep(conversation) {
  const whole = { ...conversation, changed: Date.now() };
  forTab.set(CURRENT, whole.id);
  try {
    await within("readwrite", (store) => store.put(whole));
    const old = (await list()).slice(MOST);
    for (const { id } of old) await remove(id);
  } catch {
    unkept.set(whole.id, whole);
  }
}

// A deleted one that is wanted back.
export const restore = (conversation) => within("readwrite", (store) => store.put(conversation)).catch(() => unkept.set(conversation.id, conversation));

export async function remove(id) {
  unkept.delete(id);
  await within("readwrite", (store) => store.delete(id)).catch(() => undefined);
}

// The one that this tab shows.
export async function recall() {
  const id = forTab.get(CURRENT);
  if (!id) return null;
  return unkept.get(id) ?? (await within("readonly", (store) => store.get(id)).catch(() => null)) ?? null;
}

export const isCurrent = (id) => forTab.get(CURRENT) === id;
export const leave = () => forTab.remove(CURRENT);

const SAID = { user: "You", assistant: "Answer" };

// As a file for people; pictures are named, not held.
export function exported(conversation) {
  const parts = conversation.messages.map(({ role, content, pictures = [], model }) => {
    const who = role === "assistant" && model ? `${SAID[role]} (${model})` : SAID[role];
    const shown = pictures.length ? `\n\n*${pictures.length} picture${pictures.length === 1 ? "" : "s"}*` : "";
    return `## ${who}\n\n${content}${shown}`;
  });
  const system = conversation.settings?.system ? [`*System prompt: ${conversation.settings.system}*`] : [];
  return [`# ${conversation.name}`, ...system, ...parts].join("\n\n") + "\n";
}
