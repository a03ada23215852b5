// The pictures that were drawn, kept in this browser with their recipes.

const NAME = "diptych";
const STORE = "pictures";
export const changes = new EventTarget();
// Where the browser keeps nothing (some do not, in private windows), they last as long as the page.
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

// One transaction; the result of the request that `work` makes of the store.
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

// Read once; the browser holds the pictures themselves on its disk. Other tabs say when they change something.
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

// A full disk or a private window costs the gallery, never the picture that was drawn.
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

// All of them, the last first.
export async function all() {
  kept ??= within("readonly", (store) => store.index("made").getAll()).catch(() => []);
  return [...(await kept), ...unkept.values()].sort((one, other) => other.made - one.made || one.index - other.index);
}

// Addresses for <img>, one a picture, given back when the picture is gone.
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
