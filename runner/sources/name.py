"""How models are named: where a name says to look, and what hub repos and Ollama's models can be called."""

import re
from typing import Literal, NamedTuple, Self

Source = Literal["folder", "hub", "ollama"]

# The word before the colon that says where to look.
_PREFIXES: dict[Source, str] = {"folder": "folder", "hub": "hf", "ollama": "ollama"}
_SOURCES = {prefix: source for source, prefix in _PREFIXES.items()}
LATEST = ":latest"  # the tag that Ollama and its clients take for granted
MAIN = "main"

_REPO_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_REPO_PART}/{_REPO_PART}")
_LEGACY_REPO = re.compile(_REPO_PART)
# What llama.cpp and those who convert for it call their files: Q4_K_M, IQ4_XS, UD-Q4_K_XL, BF16.
_QUANTIZATION = re.compile(r"(?i)(?:UD-)?(?:I?Q[1-8][A-Z0-9_]{0,12}|TQ[12]_0|B?F16|F32|MXFP4[A-Z_]{0,8})")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./+-]{0,126}[A-Za-z0-9_+-])?")

_OLLAMA_DEFAULTS = ("registry.ollama.ai", "library")  # host and namespace
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
# For API documents: names as they are usually written, without a host.
NAME_PATTERN = rf"^(?:{_NAMESPACE.pattern}/)?{_PART.pattern}(?::{_PART.pattern})?$"


class HubName(NamedTuple):
    """A hub repo, the branch, tag or commit of it, and which of its GGUF files ("": the usual one)."""

    repo: str
    revision: str
    quantization: str = ""

    def __str__(self) -> str:
        name = self.repo if self.revision == MAIN else f"{self.repo}@{self.revision}"
        return f"{name}:{self.quantization}" if self.quantization else name


class OllamaName(NamedTuple):
    """host/namespace/model:tag, complete."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """As short as Ollama writes it."""
        parts = [self.host, self.namespace, self.model]
        for default in _OLLAMA_DEFAULTS:
            if parts[0] != default:
                break
            parts.pop(0)
        return f"{'/'.join(parts)}:{self.tag}"


class ModelName(NamedTuple):
    """A name as a user writes it: `text`, and the source that a prefix (`folder:`, `hf:`, `ollama:`) forces.

    Parsing accepts any text and writing it gives the same text back; whether it can name a model is for `hub`, `ollama`
    and the disk to say.
    """

    source: Source | None
    text: str

    @classmethod
    def parse(cls, name: str) -> Self:
        prefix, colon, text = name.partition(":")
        source = _SOURCES.get(prefix) if colon else None
        return cls(source, text) if source else cls(None, name)

    @classmethod
    def shortest(cls, source: Source, text: str) -> Self:
        """The name without its prefix, unless it would then be looked up elsewhere."""
        name = cls.parse(text)
        is_ambiguous = name.source is not None or (source == "hub" and "/" not in text.partition("@")[0])
        return cls(source, text) if is_ambiguous else name

    def __str__(self) -> str:
        return self.text if self.source is None else f"{_PREFIXES[self.source]}:{self.text}"

    @property
    def hub(self) -> HubName | None:
        """The hub repo that this may mean. With the prefix a repo may lack its owner, as a few old ones do."""
        if self.source not in (None, "hub"):
            return None
        return parse_hub_name(self.text, forced=self.source == "hub")

    @property
    def ollama(self) -> OllamaName | None:
        """The model of the Ollama store that this may mean."""
        return parse_ollama_name(self.text) if self.source in (None, "ollama") else None

    @property
    def is_path(self) -> bool:
        """Whether it can mean a folder only."""
        starts = ("/", "./", "../", "~", ".\\", "..\\")
        return self.source == "folder" or (
            self.source is None and (self.text.startswith(starts) or self.text in (".", ".."))
        )


def parse_hub_name(name: str, *, forced: bool = False) -> HubName | None:
    """`owner/name` or `owner/name@revision`, either with `:Q4_K_M` or another quantization; None for anything that cannot
    be a hub repo.

    With `forced` a repo may lack its owner.
    """
    whole, colon, quantization = name.removeprefix("hf.co/").removeprefix("huggingface.co/").partition(":")
    if colon and not _QUANTIZATION.fullmatch(quantization):
        return None
    repo, at, revision = whole.partition("@")
    fits = _REPO.fullmatch(repo) or (forced and _LEGACY_REPO.fullmatch(repo))
    if not fits or "--" in repo or ".." in repo or repo.endswith(".git"):
        return None
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        return None
    return HubName(repo, revision or MAIN, quantization)


def parse_ollama_name(name: str) -> OllamaName | None:
    """A name as Ollama accepts it, with its defaults filled in; None for anything that cannot be a model's name."""
    rest, tag = name, "latest"
    # A colon before the last slash is a host's port.
    if name.rfind(":") > name.rfind("/"):
        rest, _, tag = name.rpartition(":")
    parts = rest.split("/")
    if len(parts) > 3:
        return None
    host, namespace, model = [*_OLLAMA_DEFAULTS[: 3 - len(parts)], *parts]
    fits = (
        _HOST.fullmatch(host)
        and _NAMESPACE.fullmatch(namespace)
        and _PART.fullmatch(model)
        and _PART.fullmatch(tag)
    )
    return OllamaName(host, namespace, model, tag) if fits else None
