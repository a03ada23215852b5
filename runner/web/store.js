// Values kept per tab or permanently; where the browser forbids that, as long as the page.

function kept(area) {
  const instead = new Map();
  const within = (work, otherwise) => {
    try {
      return work(area());
    } catch {
      return otherwise();
    }
  };
  return {
    get: (name) => within((store) => store.getItem(name), () => instead.get(name) ?? null),
    // Whether it will be there after a reload.
    set: (name, value) => within((store) => (store.setItem(name, value), true), () => (instead.set(name, value), false)),
    remove: (name) => within((store) => store.removeItem(name), () => instead.delete(name)),
  };
}

export const forTab = kept(() => sessionStorage);
export const forGood = kept(() => localStorage);
