// Helpers that build elements: what a model, a server or a user writes becomes text, never markup.

export const $ = (id) => document.getElementById(id);

// el("button", { class: "quiet", type: "button", on: { click } }, "Copy"): attributes by name; null and false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "value") {
      node.value = value;
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  // One by one: a single call takes a limited number of arguments.
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}

const ICONS = {
  again: "M4 12a8 8 0 0 1 13.7-5.6L20 8.5M20 4v4.5h-4.5M20 12a8 8 0 0 1-13.7 5.6L4 15.5M4 20v-4.5h4.5",
  box: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  brush: "M14.5 5.5l4-2 2 2-2 4-7 7-4-4zM7.5 12.5c-2 .5-2.5 2-2.7 4-.1 1.5-.8 2.5-1.8 3 3 1.5 7.5.5 8.5-3",
  chat: "M4 5h16v11H9.500L5 20v-4H4z",
  check: "M5 12.5l4.5 4.500L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  dice: "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01M12 12h.01",
  download: "M12 4v11M7.5 11l4.5 4.500L16.5 11M5 20h14",
  eraser: "M8 20l-4-4L14 6l6 6-8 8zM8 20h12M10 10l6 6",
  edit: "M4 20l1-4.500L15.5 5l3.5 3.500L8.5 19zM13 7.500l3.5 3.5",
  file: "M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6",
  gear: "M4 7h9M17 7h3M4 12h3M11 12h9M4 17h9M17 17h3M15 5v4M9 10v4M15 15v4",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  invert: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  pause: "M8 6v12M16 6v12",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  plus: "M12 5v14M5 12h14",
  queue: "M4 6h16M4 12h16M4 18h10",
  send: "M12 19V5M6 11l6-6 6 6",
  star: "M12 4l2.500 5.200 5.500.7-4 3.900 1 5.700-5-2.800-5 2.800 1-5.700-4-3.900 5.500-.7z",
  stop: "M7 7h10v10H7z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  vary: "M4 7h4l8 10h4M4 17h4l2-2.500M14 9.500L16 7h4M18 4.500L20.5 7 18 9.500M18 14.500l2.5 2.5-2.5 2.5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: 20, height: 20, class: "glyph" })) {
    svg.setAttribute(key, value);
  }
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(label, name, pressed, { kind = "quiet", bare = false, ...rest } = {}) {
  const attributes = { type: "button", class: bare ? `${kind} icon` : kind, on: { click: pressed }, ...rest };
  if (bare) Object.assign(attributes, { "aria-label": label, title: label, ...rest });
  return el("button", attributes, name && icon(name), bare ? null : label);
}

export function fillIcons(root) {
  for (const place of root.querySelectorAll("[data-icon]")) place.replaceWith(icon(place.dataset.icon));
}

// Text for screen readers only.
export function announce(text) {
  $("status").textContent = text;
}

const UNDO_MS = 12_000;
let undoing = 0;

// Says what was done, with a button that takes it back.
export function offerUndo(text, undo) {
  const bar = $("undo");
  const close = () => {
    clearTimeout(undoing);
    bar.hidden = true;
    bar.replaceChildren();
  };
  const back = () => {
    close();
    undo();
  };
  const later = () => {
    if (bar.matches(":hover, :focus-within")) undoing = setTimeout(later, UNDO_MS);
    else close();
  };
  close();
  bar.replaceChildren(el("span", {}, text), button("Undo", null, back));
  bar.hidden = false;
  announce(text);
  undoing = setTimeout(later, UNDO_MS);
}

// Says at a field what is wrong with it, until it is changed. Hidden parts that hold it are opened.
export function complain(input, text) {
  const field = input.closest(".row, .pair") ?? input.closest(".field") ?? input.parentElement;
  const said = el("p", { class: "wrong", role: "alert", id: `${input.id}-wrong` }, text);
  const described = input.getAttribute("aria-describedby");
  const settle = () => {
    said.remove();
    input.removeAttribute("aria-invalid");
    if (described) input.setAttribute("aria-describedby", described);
    else input.removeAttribute("aria-describedby");
  };
  if (field.nextElementSibling?.matches(".wrong")) field.nextElementSibling.remove();
  field.after(said);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", [described, said.id].filter(Boolean).join(" "));
  input.addEventListener("input", settle, { once: true });
  input.closest("details")?.setAttribute("open", "");
  input.focus();
}

// An error message, and buttons for what can be done about it.
export function fault(text, ...actions) {
  return el("div", { class: "fault", role: "alert" }, el("p", {}, text), ...actions.filter(Boolean));
}
