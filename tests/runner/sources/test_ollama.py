"""Models in Ollama's store."""

import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

import pipelines
from models.checkpoint.weights import load_component
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.memory import weights_bytes
from runner.inspect.mode import ModelMode, detect_model_mode
from runner.paths import cache_folder
from runner.sources import find, ollama
from runner.sources.name import ModelName, OllamaName, parse_ollama_name
from runner.sources.ollama_store import store_root
from tests.runner.checkpoints import safetensors, text_files
from tests.runner.ollama_store import MEDIA, layer, manifest

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def tensor(root: Path, name: str, content: bytes | None = None) -> dict[str, Any]:
    return layer(root, "tensor", name, content or safetensors({name: ("BF16", (2, 2))}))


def picture_layers(root: Path) -> list[dict[str, Any]]:
    return [
        layer(root, "json", "model_index.json", {"architecture": "ZImagePipeline"}),
        layer(root, "json", "transformer/config.json", {"dim": 4}),
        layer(root, "json", "tokenizer/tokenizer.json", {"version": "1.0"}),
        layer(root, "json", "vae/config.json", {}),
        tensor(root, "transformer/a.weight"),
        tensor(root, "transformer/b.weight", safetensors({"b.weight": ("BF16", (4, 2))})),
        tensor(root, "vae/c.weight", safetensors({"data": ("F32", (3,))})),
        layer(root, "license", "", b"free"),
        layer(root, "params", "", {"temperature": 1}),
    ]


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("z-image-turbo", ("registry.ollama.ai", "library", "z-image-turbo", "latest")),
        ("x/flux2-klein:4b", ("registry.ollama.ai", "x", "flux2-klein", "4b")),
        ("hf.co/owner/name:Q4_K_M", ("hf.co", "owner", "name", "Q4_K_M")),
        ("localhost:5000/ns/model", ("localhost:5000", "ns", "model", "latest")),
        ("localhost:5000/ns/model:tag", ("localhost:5000", "ns", "model", "tag")),
        ("_model:_tag", ("registry.ollama.ai", "library", "_model", "_tag")),
        ("m" * 80, ("registry.ollama.ai", "library", "m" * 80, "latest")),
    ],
)
def test_a_name_gets_ollamas_defaults(name: str, meant: tuple[str, ...]) -> None:
    assert parse_ollama_name(name) == OllamaName(*meant)


@pytest.mark.parametrize(
    "name",
    [
        "", ":", "/", "a/", "/a", "a:", ":a", "..", "../x", "x/..", "../../etc", "/etc/passwd", "a/b/c/d", ".hidden", "-x",
        "x:-y", "x:..", "a.b/model", "x/./y", "a//b", "model name", "modèle", "a\\b", "a\0b", "a\nb", "model:tag\n", "a:b:c",
        "a@sha256:0", "C:\\models", "C:/models", "~/x", "m" * 81, "x:" + "t" * 81, "n" * 81 + "/m", "h" * 351 + "/n/m",
        "http://registry.ollama.ai/library/x", "x" * 10_000, "a/b/c/..", "%2e%2e/x", "x:ta/g",
    ],
)  # fmt: skip
def test_anything_else_is_refused_before_a_path_is_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "read_manifest", lambda parsed: pytest.fail(f"looked for {parsed}"))
    assert ollama.find_ollama(ModelName.parse(name)) is None
    with pytest.raises(ModelNotFound):
        find(f"ollama:{name}")


@pytest.mark.parametrize(
    ("declared", "root"),
    [
        ("/a/b", "/a/b"),
        ('  "/a/b" ', "/a/b"),
        ("'/a b'", "/a b"),
        ("", "/h/.ollama/models"),
        ("  ", "/h/.ollama/models"),
    ],
)
def test_the_store_is_where_ollama_has_it(monkeypatch: pytest.MonkeyPatch, declared: str, root: str) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("OLLAMA_MODELS", declared)
    assert store_root() == Path(root)
    monkeypatch.delenv("OLLAMA_MODELS")
    assert store_root() == Path("/h/.ollama/models")


def test_a_name_is_shown_as_ollama_shows_it() -> None:
    for name in ("z-image:latest", "x/flux2-klein:4b", "hf.co/owner/name:Q4", "other.host/library/m:t"):
        assert str(parse_ollama_name(name)) == name


# Finding


def test_a_picture_model_of_the_store_is_found(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pipelines.PIPELINES, "ZImagePipeline", "pipelines.z_image:ZImagePipeline")
    manifest(store, f"{LIBRARY}/z-image/latest", picture_layers(store))
    for name in ("z-image", "z-image:latest", "ollama:z-image", "library/z-image"):
        files = find(name)
        assert (files.source, files.name) == ("ollama", "z-image:latest")
        assert detect_model_mode(files)[:2] == (ModelMode.IMAGE, "ZImagePipeline")
    assert weights_bytes(files) == 8 + 16 + 12


def test_the_store_comes_before_a_download(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    manifest(store, "registry.ollama.ai/x/flux2-klein/latest", picture_layers(store))
    assert find("x/flux2-klein").source == "ollama"


def test_a_name_that_the_store_lacks_says_where_it_was_looked_for(store: Path) -> None:
    with pytest.raises(ModelNotFound) as raised:
        find("ollama:absent")
    assert str(store) in raised.value.message
    with pytest.raises(ModelNotFound, match="absent:4b"):
        find("absent:4b")


def test_a_damaged_gguf_model_is_refused_by_its_name(store: Path) -> None:
    manifest(store, f"{LIBRARY}/llama/latest", [layer(store, "model", "", b"GGUF...")])
    with pytest.raises(ModelNotSupported, match="cut short"):
        find("llama").listing()


# Loading


def test_a_picture_models_tensors_load_under_their_own_names(store: Path) -> None:
    manifest(store, f"{LIBRARY}/z-image/latest", picture_layers(store))
    model = find("z-image").fetch(ModelMode.IMAGE)
    assert [shard.names for shard in model.shards("transformer")] == [
        {"transformer/a.weight": "a.weight"},
        {"b.weight": "b.weight"},
    ]
    assert [shard.names for shard in model.shards("vae")] == [{"data": "c.weight"}]
    assert model.shards("tokenizer") == ()
    assert {name: info.shape for name, info in find("z-image").tensors("transformer").items()} == {
        "a.weight": (2, 2),
        "b.weight": (4, 2),
    }


def test_json_is_copied_to_its_place_once(store: Path, tmp_path: Path) -> None:
    manifest(store, f"{LIBRARY}/z-image/latest", picture_layers(store))
    folder = find("z-image").fetch(ModelMode.IMAGE).folder
    assert folder.is_relative_to(tmp_path / "cache")
    assert json.loads((folder / "tokenizer" / "tokenizer.json").read_text()) == {"version": "1.0"}
    before = (folder / "model_index.json").stat()
    assert find("z-image").fetch(ModelMode.IMAGE).folder == folder
    assert (folder / "model_index.json").stat() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_copy_that_lost_a_file_is_made_again(store: Path) -> None:
    manifest(store, f"{LIBRARY}/z-image/latest", picture_layers(store))
    folder = find("z-image").fetch(ModelMode.IMAGE).folder
    (folder / "vae" / "config.json").unlink()
    (folder / "model_index.json").write_text("")
    assert find("z-image").fetch(ModelMode.IMAGE).folder == folder
    assert (folder / "vae" / "config.json").exists()
    assert (folder / "model_index.json").read_text()
    assert len(list(folder.parent.iterdir())) == 1


def test_another_manifest_gets_another_copy(store: Path) -> None:
    layers = picture_layers(store)
    manifest(store, f"{LIBRARY}/z-image/latest", layers)
    first = find("z-image").fetch(ModelMode.IMAGE).folder
    changed = layer(store, "json", "vae/config.json", {"changed": True})
    manifest(
        store,
        f"{LIBRARY}/z-image/latest",
        [entry for entry in layers if entry.get("name") != "vae/config.json"] + [changed],
    )
    second = find("z-image").fetch(ModelMode.IMAGE).folder
    assert first != second
    assert json.loads((second / "vae" / "config.json").read_text()) == {"changed": True}


def test_a_cache_that_cannot_be_written_is_named(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(store, f"{LIBRARY}/z-image/latest", picture_layers(store))
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "a file"))
    with pytest.raises(ModelNotSupported, match="set DIPTYCH_CACHE"):
        find("z-image").fetch(ModelMode.IMAGE)


def test_the_cache_is_where_the_system_has_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    for name in ("DIPTYCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("/h/.cache/diptych")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/diptych")
    monkeypatch.setenv("DIPTYCH_CACHE", "~/d")
    assert cache_folder() == Path("/h/d")


def test_a_language_model_of_the_store_loads_with_its_packed_experts(store: Path) -> None:
    experts = {f"model.layers.1.mlp.experts.{n}.up_proj.weight": ("BF16", (2, 2)) for n in range(2)}
    layers = [
        layer(store, "json", name, content)
        for name, content in text_files().items()
        if name.endswith(".json")
    ]
    layers += [
        tensor(store, "model.norm.weight"),
        tensor(store, "model.layers.1.mlp.experts", safetensors(experts)),
    ]
    manifest(store, f"{LIBRARY}/glm/latest", layers)
    model = find("glm").fetch(ModelMode.TEXT)
    assert [list((shard.names or {}).values()) for shard in model.shards("")] == [
        ["model.norm.weight"],
        list(experts),
    ]
    assert (model.folder / "tokenizer.json").exists()


def test_layers_that_share_a_blob_keep_their_own_names(store: Path) -> None:
    shared = safetensors({"data": ("BF16", (2, 2))})
    pack = safetensors({"a.x": ("BF16", (1,)), "a.y": ("BF16", (1,)), "a.z": ("BF16", (1,))})
    layers = [layer(store, "json", "model_index.json", {"architecture": "X"})]
    layers += [tensor(store, f"vae/{name}", shared) for name in ("one.weight", "two.weight")]
    layers += [tensor(store, f"vae/{name}", pack) for name in ("a.x", "a.y")]
    manifest(store, f"{LIBRARY}/m/latest", layers)
    shards = find("m").fetch(ModelMode.IMAGE).shards("vae")
    assert [shard.names for shard in shards] == [
        {"data": "one.weight"}, {"data": "two.weight"}, {"a.x": "a.x"}, {"a.y": "a.y"},
    ]  # fmt: skip
    assert shards[0].path == shards[1].path


def test_a_pack_that_one_layer_names_in_part_is_taken_whole_once(store: Path) -> None:
    pack = safetensors({"vae/a.x": ("BF16", (1,)), "vae/a.y": ("BF16", (1,))})
    layers = [layer(store, "json", "model_index.json", {"architecture": "X"})]
    layers += [
        tensor(store, "vae/a.x", pack),
        tensor(store, "vae/a", pack),
        tensor(store, "vae/the-same", pack),
    ]
    manifest(store, f"{LIBRARY}/m/latest", layers)
    assert list(find("m").tensors("vae")) == ["a.x", "a.y"]


def test_a_tensor_that_two_blobs_hold_is_an_error(store: Path) -> None:
    layers = [tensor(store, "vae/a"), tensor(store, "vae/pack", safetensors({"a": ("BF16", (1,))}))]
    manifest(store, f"{LIBRARY}/m/latest", layers)
    with pytest.raises(ModelNotSupported, match="has tensors twice: a"):
        find("m").tensors("vae")


# Quantized


class Net(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(64, 16)
        self.plain = nn.Linear(16, 4)


def as_ollama_writes(path: Path, prefix: str, arrays: dict[str, mx.array], metadata: dict[str, str]) -> bytes:
    """A quantized layer in one blob: weight, and its parts with a dot."""
    names = {"proj.scales": "proj.weight.scale", "proj.biases": "proj.weight.bias"}
    mx.save_safetensors(str(path), {prefix + names.get(k, k): v for k, v in arrays.items()}, metadata)
    return path.with_suffix(".safetensors").read_bytes()


@pytest.mark.parametrize(
    ("mode", "bits", "group_size", "metadata"),
    [
        ("affine", 4, 64, {"quant_type": "int4", "group_size": "64"}),
        ("affine", 4, 32, {"quant_type": "int4", "group_size": "32"}),
        ("affine", 8, 64, {"proj.weight.quant_type": "int8"}),
        ("nvfp4", 4, 16, {"quant_type": "nvfp4", "group_size": "16"}),
        ("mxfp8", 8, 32, {}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "transformer/"])
def test_quantized_layers_load_as_mlx_has_them(
    store: Path, tmp_path: Path, mode: str, bits: int, group_size: int, metadata: dict[str, str], prefix: str
) -> None:
    net = Net()
    nn.quantize(net, group_size, bits, mode=mode, class_predicate=lambda path, _: path == "proj")
    stored: dict[str, mx.array] = dict(tree_flatten(net.parameters()))
    quantized = {
        name: value for name, value in stored.items() if name.startswith("proj.") and name != "proj.bias"
    }
    layers = [layer(store, "json", "model_index.json", {"architecture": "X"})]
    content = as_ollama_writes(tmp_path / "q", prefix, quantized, metadata)
    layers.append(tensor(store, "transformer/proj.weight", content))
    for name in ("proj.bias", "plain.weight", "plain.bias"):
        content = as_ollama_writes(tmp_path / "p", prefix, {name: stored[name]}, {})
        layers.append(tensor(store, f"transformer/{name}", content))
    manifest(store, f"{LIBRARY}/m/latest", layers)

    files = find("m")
    loaded = Net()
    load_component(loaded, files.fetch(ModelMode.IMAGE).shards("transformer"))
    assert {name: info.shape for name, info in files.tensors("transformer").items()} == {
        name: value.shape for name, value in stored.items()
    }
    assert files.declared_quantization("transformer") == set(metadata.values()) - {"16", "32", "64"}
    probe = mx.random.normal((3, 64))
    assert mx.array_equal(loaded.plain(loaded.proj(probe)), net.plain(net.proj(probe)))


def test_the_first_stores_kept_scales_as_layers_of_their_own(store: Path) -> None:
    layers = [
        tensor(store, "transformer/a.weight", safetensors({"data": ("U32", (4, 8))})),
        tensor(store, "transformer/a.weight_scale", safetensors({"data": ("BF16", (4, 1))})),
        tensor(store, "transformer/a.weight_qbias", safetensors({"data": ("BF16", (4, 2))})),
        tensor(store, "transformer/a.bias", safetensors({"data": ("BF16", (4,))})),
        tensor(store, "transformer/b.weight", safetensors({"data": ("BF16", (4, 4))})),
        tensor(store, "transformer/b.weight_scale", safetensors({"data": ("BF16", (9,))})),
    ]
    manifest(store, f"{LIBRARY}/m/latest", layers)
    assert list(find("m").tensors("transformer")) == [
        "a.weight", "a.scales", "a.biases", "a.bias", "b.weight", "b.weight_scale",
    ]  # fmt: skip


def test_a_global_scale_keeps_its_name_beside_the_weight(store: Path) -> None:
    parts = {
        "a.weight": ("U32", (4, 2)),
        "a.weight.scale": ("U8", (4, 1)),
        "a.weight.global_scale": ("F32", (1,)),
    }
    manifest(store, f"{LIBRARY}/m/latest", [tensor(store, "transformer/a.weight", safetensors(parts))])
    assert list(find("m").tensors("transformer")) == ["a.weight", "a.scales", "a.global_scale"]


# Broken and hostile


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json", "../../evil.json", "/evil.json", "a/../../evil.json", "a/./evil.json", "C:/evil.json", "C:evil.json",
        "a\\..\\evil.json", "evil.json\0", "a//evil.json", "", "x" * 600 + ".json", "a/" + "x" * 300, "evil\n.json", ".",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["json", "tensor"])
def test_a_layer_named_outside_the_model_is_refused(
    store: Path, tmp_path: Path, name: str, kind: str
) -> None:
    entry = layer(store, kind, "x", {}) | {"name": name}
    manifest(store, f"{LIBRARY}/m/latest", [*picture_layers(store), entry])
    with pytest.raises(ModelNotSupported, match="not a path inside a model") as raised:
        find("m")
    assert len(raised.value.message) < 600
    assert not [path for path in tmp_path.rglob("*evil*") if path.is_file()]


def test_code_among_the_layers_is_not_copied(store: Path) -> None:
    extra = layer(store, "json", "tokenizer/code.py", b"print('remote code')")
    manifest(store, f"{LIBRARY}/m/latest", [*picture_layers(store), extra])
    assert not list(find("m").fetch(ModelMode.IMAGE).folder.rglob("*.py"))


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "md5:" + "0" * 32, 7, None,
     "sha256:" + "0" * 63, "sha256:" + "0" * 64 + "\n", "sha256-" + "0" * 64],
)  # fmt: skip
def test_a_digest_that_is_none_is_refused(store: Path, digest: object) -> None:
    entry = {"mediaType": f"{MEDIA}json", "digest": digest, "size": 1, "name": "config.json"}
    manifest(store, f"{LIBRARY}/m/latest", [entry])
    with pytest.raises(ModelNotSupported, match="digest"):
        find("m")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not UTF-8"),
        (b"{}", "schemaVersion"),
        (b'{"schemaVersion": 1, "layers": []}', "2 can be read"),
        (b'{"schemaVersion": 2}', "no list of layers"),
        (b'{"schemaVersion": 2, "layers": {}}', "no list of layers"),
        (b'{"schemaVersion": 2, "layers": [7]}', "without mediaType"),
        (b'{"schemaVersion": 2, "layers": [{}]}', "without mediaType"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_manifest_is_named(store: Path, content: bytes, reason: str) -> None:
    path = manifest(store, f"{LIBRARY}/m/latest", [])
    path.write_bytes(content)
    with pytest.raises(ModelNotSupported, match=reason) as raised:
        find("m")
    assert str(path) in raised.value.message


def test_a_huge_manifest_is_not_read(store: Path) -> None:
    os.truncate(manifest(store, f"{LIBRARY}/m/latest", []), 2**30)
    with pytest.raises(ModelNotSupported, match="too large"):
        find("m")


@pytest.mark.parametrize("gone", ["vae/config.json", "transformer/a.weight"])
def test_a_blob_that_is_gone_says_how_to_get_it_back(store: Path, gone: str) -> None:
    layers = picture_layers(store)
    digest = next(entry["digest"] for entry in layers if entry.get("name") == gone)
    manifest(store, f"{LIBRARY}/m/latest", layers)
    (store / "blobs" / digest.replace(":", "-")).unlink()
    with pytest.raises(ModelNotSupported, match=r"ollama pull m:latest") as raised:
        find("m").fetch(ModelMode.IMAGE)
    assert gone in raised.value.message


def test_a_blob_that_is_cut_short_is_named(store: Path) -> None:
    layers = picture_layers(store)
    digest = next(entry["digest"] for entry in layers if entry.get("name") == "vae/c.weight")
    manifest(store, f"{LIBRARY}/m/latest", layers)
    os.truncate(store / "blobs" / digest.replace(":", "-"), 20)
    with pytest.raises(
        ModelNotSupported, match=r"vae/c\.weight .*has 20 bytes where the manifest says \d+; pull"
    ):
        find("m").tensors("vae")


def test_a_blob_whose_header_does_not_fit_its_bytes_is_named(store: Path) -> None:
    layers = picture_layers(store)
    entry = next(entry for entry in layers if entry.get("name") == "vae/c.weight")
    os.truncate(store / "blobs" / entry["digest"].replace(":", "-"), 20)
    entry["size"] = 20
    manifest(store, f"{LIBRARY}/m/latest", layers)
    with pytest.raises(ModelNotSupported, match="cut short"):
        find("m").tensors("vae")


@pytest.mark.parametrize("size", [-1, "7", True, 1.5])
def test_a_size_that_is_none_is_refused(store: Path, size: object) -> None:
    manifest(store, f"{LIBRARY}/m/latest", [layer(store, "json", "config.json", {}) | {"size": size}])
    with pytest.raises(ModelNotSupported, match="a number of bytes is needed"):
        find("m")


def test_a_json_blob_that_is_huge_is_not_read(store: Path) -> None:
    layers = picture_layers(store)
    layers[0]["size"] = 2**30
    manifest(store, f"{LIBRARY}/m/latest", layers)
    os.truncate(store / "blobs" / layers[0]["digest"].replace(":", "-"), 2**30)
    with pytest.raises(ModelNotSupported, match=r"model_index\.json .*too large"):
        detect_model_mode("m")


def test_a_model_without_tensors_is_refused(store: Path) -> None:
    manifest(store, f"{LIBRARY}/m/latest", [layer(store, "json", "config.json", {"model_type": "qwen3"})])
    with pytest.raises(ModelNotSupported, match="has no weights"):
        find("m").fetch(ModelMode.TEXT)
