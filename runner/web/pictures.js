// The store of pictures and their recipes, in this browser.

const NAME = "diptych";
const STORE = "pictures";
export const changes = new EventTarget();
// Some browsers store nothing in private windows: there the pictures last as long as the page.
const unkept = new Map();
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
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("made", "made");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
    request.onblocked = () => resolve(null);
  });
  return opened;
}

// Runs one transaction; the result of the request that `work` makes.
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

// Cached: the browser keeps the pictures themselves on disk. Other tabs announce their changes.
let kept = null;
const tabs = new BroadcastChannel("diptych-pictures");

function changed() {
  kept = null;
  changes.dispatchEvent(new Event("change"));
}

function tell() {
  tabs.postMessage(null);
  changed();
}

tabs.addEventListener("message", changed);

// If storing fails (a full disk, a private window), the picture is kept in memory.
export async function keep(picture) {
  try {
    await within("readwrite", (store) => store.put(picture));
  } catch {
    unkept.set(picture.id, picture);
  }
  tell();
}

export async function remove(id) {
  unkept.delete(id);
  try {
    await within("readwrite", (store) => store.delete(id));
  } finally {
    tell();
  }
}

export const isKept = (id) => !unkept.has(id);

// Recipes stored by earlier versions have two other names.
function renamed({ recipe: { negative, count, ...recipe }, ...picture }) {
  return { ...picture, recipe: { negative_prompt: negative, n: count, ...recipe } };
}

// All pictures, newest first.
export async function all() {
  kept ??= within("readonly", (store) => store.index("made").getAll()).then((pictures) => pictures.map(renamed), () => []);
  return [...(await kept), ...unkept.values()].sort((one, other) => other.made - one.made || one.index - other.index);
}

// Object URLs for <img>, one per picture, revoked when the picture is deleted.
const addresses = new Map();

export function address(picture) {
  if (!addresses.has(picture.id)) addresses.set(picture.id, URL.createObjectURL(picture.blob));
  return addresses.get(picture.id);
}

changes.addEventListener("change", async () => {
  if (!addresses.size) return;
  const ids = new Set((await all()).map((picture) => picture.id));
  for (const [id, url] of addresses) {
    if (!ids.has(id)) {
      URL.revokeObjectURL(url);
      addresses.delete(id);
    }
  }
});
