// Blocks of code, lightly coloured, with a button to copy them.

import { button, el } from "./dom.js";

const WORDS = new Set(
  ("abstract and as assert async await break case catch class const continue def default defer del do done elif else end enum " +
    "esac except export extends extern false False fi final finally fn for foreach from func function go goto if impl implements " +
    "import in include instanceof interface is lambda let local loop match mod module mut namespace new nil None nonlocal not null " +
    "of or override package pass private protected pub public raise ref return self static struct super switch template then this " +
    "throw throws trait true True try type typeof undefined union unsafe use using val var void when where while with yield").split(" "),
);
const SQL = new Set("select from where group order by having insert into values update set delete create table join left right inner outer on as and or not null is in limit union distinct primary key".split(" "));

const HASHES = ["python", "py", "sh", "bash", "shell", "zsh", "yaml", "yml", "toml", "ruby", "rb", "r", "perl", "make", "dockerfile", "ini", "conf"];
const SLASHES = ["js", "javascript", "mjs", "ts", "typescript", "jsx", "tsx", "c", "h", "cpp", "c++", "cc", "cs", "csharp", "java", "kotlin", "swift", "go", "rust", "rs", "json", "jsonc", "php", "scala", "dart", "css", "scss", "zig", "metal", "cuda", "glsl"];
const DASHES = ["sql", "lua", "haskell", "hs"];

const STRING = /"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?/.source;
const NUMBER = /\b\d[\w.]*/.source;
const WORD = /[A-Za-z_$][\w$]*/.source;

function pattern(language) {
  const comments = [
    ...(HASHES.includes(language) ? ["#[^\n]*"] : []),
    ...(SLASHES.includes(language) ? ["//[^\n]*", "/\\*[^]*?(?:\\*/|$)"] : []),
    ...(DASHES.includes(language) ? ["--[^\n]*"] : []),
  ];
  if (!comments.length) return null;
  return new RegExp(`(?<comment>${comments.join("|")})|(?<string>${STRING})|(?<number>${NUMBER})|(?<word>${WORD})`, "g");
}

function coloured(source, language) {
  const parts = pattern(language);
  if (!parts || source.length > 100_000) return [source];
  const words = language === "sql" ? SQL : WORDS;
  const nodes = [];
  let at = 0;
  for (const found of source.matchAll(parts)) {
    const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
    const known = kind !== "word" || words.has(language === "sql" ? found[0].toLowerCase() : found[0]);
    if (!known) continue;
    nodes.push(source.slice(at, found.index), el("span", { class: `code-${kind}` }, found[0]));
    at = found.index + found[0].length;
  }
  return [...nodes, source.slice(at)];
}

export function codeBlock(source, about) {
  const language = about.toLowerCase();
  const code = el("code", {}, coloured(source, language));
  const head = el("figcaption", {}, el("span", {}, about.slice(0, 40) || "text"), copying(() => source));
  return el("figure", { class: "code" }, head, el("pre", { tabindex: 0, role: "region", "aria-label": `Code${about ? `, ${about.slice(0, 40)}` : ""}` }, code));
}

// A button that copies the text that `what` returns.
export function copying(what) {
  const made = button("Copy", "copy", async () => {
    const worked = await copy(what());
    made.lastChild.textContent = worked ? "Copied" : "Copying failed";
    setTimeout(() => {
      made.lastChild.textContent = "Copy";
    }, 1500);
  });
  made.classList.add("small");
  return made;
}

async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyOldWay(text);
    }
  }
  return copyOldWay(text); // over plain HTTP in a local network there is no clipboard API
}

function copyOldWay(text) {
  const area = el("textarea", { class: "unseen", "aria-hidden": "true", value: text });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const worked = document.execCommand("copy");
  area.remove();
  before?.focus();
  return worked;
}
