// Pictures and their recipes in this browser: where the gateway keeps no gallery, and those of before it did.

const NAME = "diptych";
const STORE = "pictures";
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

// Cached: the browser keeps the pictures themselves on disk.
let kept = null;

export function forgetCached() {
  kept = null;
}

// If storing fails (a full disk, a private window), the picture is kept in memory.
export async function put(picture) {
  try {
    await within("readwrite", (store) => store.put(picture));
  } catch {
    unkept.set(picture.id, picture);
  }
}

export async function take(id) {
  unkept.delete(id);
  await within("readwrite", (store) => store.delete(id));
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
