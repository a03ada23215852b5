"""Names: any text parses and comes back as it was, and what names a repo or a model of the store is safe in a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.sources.name import HubName, ModelName, OllamaName, Source, parse_hub_name, parse_ollama_name

PIECES = (
    "hf:", "ollama:", "folder:", ":latest", "..", ".", "//", "/", ":", "@", "\\", "~", "\0", "\n", "\x7f", "\x1b[2J", " ",
    "owner/name", "model", "ä", "\u202e", "😀", "%2e", "--", ".git", "x" * 300,
)  # fmt: skip
NAMES = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
SOURCES: tuple[Source, ...] = ("folder", "hub", "ollama")
WORDS = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
HOSTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}(:[0-9]{1,5})?", fullmatch=True)
OLLAMA = st.builds(
    OllamaName,
    st.sampled_from(["registry.ollama.ai", "library"]) | HOSTS,
    st.sampled_from(["library"]) | WORDS,
    st.sampled_from(["library", "hf", "ollama", "folder"]) | TAGS,
    st.sampled_from(["latest"]) | TAGS,
)
HUB = st.builds(
    HubName,
    st.tuples(WORDS, WORDS).map("/".join) | WORDS,
    st.sampled_from(["main", "refs/pr/1", "v1.0"]) | WORDS,
    st.sampled_from(["", "Q4_K_M", "IQ4_XS", "UD-Q4_K_XL", "BF16"]),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", ModelName(None, "owner/name")),
        ("hf:gpt2@v1", ModelName("hub", "gpt2@v1")),
        ("ollama:qwen3:8b", ModelName("ollama", "qwen3:8b")),
        ("folder:./x", ModelName("folder", "./x")),
        ("folder:", ModelName("folder", "")),
        ("hf", ModelName(None, "hf")),
        ("qwen3:8b", ModelName(None, "qwen3:8b")),
        ("HF:gpt2", ModelName(None, "HF:gpt2")),
        ("hf:ollama:x", ModelName("hub", "ollama:x")),
        ("", ModelName(None, "")),
    ],
)
def test_a_prefix_says_where_to_look(text: str, name: ModelName) -> None:
    assert ModelName.parse(text) == name
    assert str(name) == text


@given(NAMES)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert str(ModelName.parse(text)) == text


@given(st.sampled_from(SOURCES), NAMES)
def test_a_forced_source_survives_being_written(source: Source, text: str) -> None:
    name = ModelName(source, text)
    assert ModelName.parse(str(name)) == name


@given(st.sampled_from(SOURCES), NAMES)
def test_the_shortest_name_keeps_its_text(source: Source, text: str) -> None:
    name = ModelName.parse(str(ModelName.shortest(source, text)))
    assert name in (ModelName(None, text), ModelName(source, text))


@given(HUB)
def test_a_hub_repo_is_found_under_its_shortest_name(hub: HubName) -> None:
    assert ModelName("hub", str(hub)).hub == hub
    assert ModelName.shortest("hub", str(hub)).hub == hub


@given(OLLAMA)
def test_a_model_of_the_store_is_found_under_its_shortest_name(name: OllamaName) -> None:
    assert parse_ollama_name(str(name)) == name
    assert ModelName.shortest("ollama", str(name)).ollama == name


@given(NAMES)
def test_a_hub_repo_is_safe_in_a_path(text: str) -> None:
    hub = ModelName.parse(text).hub or parse_hub_name(text, forced=True)
    if hub is not None:
        assert_safe(hub.repo)
        assert_safe(hub.revision)


@given(NAMES)
def test_a_model_of_the_store_is_safe_in_a_path(text: str) -> None:
    name = ModelName.parse(text).ollama
    for part in name or ():
        assert "/" not in part
        assert_safe(part)


@given(NAMES)
def test_a_prefix_leaves_the_other_sources_out(text: str) -> None:
    assert ModelName("folder", text).hub is None
    assert ModelName("folder", text).ollama is None
    assert ModelName("hub", text).ollama is None
    assert ModelName("ollama", text).hub is None


def assert_safe(part: str) -> None:
    assert part.isascii()
    assert part.isprintable()
    assert len(part) <= 400
    assert not set(part) & set('\\*?"<>|~ ')
    assert not part.startswith(("/", ".", "-"))
    assert all(step not in ("", ".", "..") for step in part.split("/"))
