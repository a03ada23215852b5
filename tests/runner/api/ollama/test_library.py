"""Pull, delete and copy by the real ollama package: models that come, go, and get second names."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.hub_server import HubServer
from tests.runner.api.ollama.test_ollama import refused
from tests.runner.checkpoints import safetensors, text_files
from tests.runner.gateway.live import Gateway
from tests.runner.ollama_store import layer, manifest, store_model
from tests.toys import toy_text
from tests.waiting import PATIENCE, until, wait_until

ollama = pytest.importorskip("ollama", reason="the clients group is not installed")

BIG = safetensors({"model.embed_tokens.weight": ("F32", (3000, 1000))})
LIBRARY = "registry.ollama.ai/library"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Path]:
    """Where the models of this machine lie."""
    place = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(place / "home"))
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("OLLAMA_MODELS", str(place / "store"))
        patch.setenv("DIPTYCH_CACHE", str(place / "made"))
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.delenv("HF_TOKEN", raising=False)
        yield place


@pytest.fixture(scope="module")
def gateway(place: Path) -> Iterator[Gateway]:
    """`here` is a folder with an alias; `named` an alias of a model of the hub."""
    folders = {"here": toy_text(), "named": Path("owner/named")}
    with Gateway(folders, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return ollama.Client(host=gateway.url, timeout=PATIENCE)


def names(client: Any) -> set[str]:
    return {model.model for model in client.list().models}


def stored(place: Path, name: str, **config: Any) -> Path:
    """A model in the Ollama store; its manifest."""
    root = place / "store"
    files = text_files()
    layers = [
        layer(root, "json", "config.json", files["config.json"] | config),
        layer(root, "json", "tokenizer.json", files["tokenizer.json"]),
        layer(root, "tensor", "model.norm.weight", safetensors({"model.norm.weight": ("BF16", (8,))})),
    ]
    return manifest(root, f"{LIBRARY}/{name}", layers)


# -- pull


def test_a_model_is_pulled_asked_and_deleted(client: Any, hub: HubServer) -> None:
    files = {path.name: path.read_bytes() for path in toy_text().iterdir()}
    hub.add("owner/toy", files)
    shown = client.show("hf:owner/toy:latest")
    assert shown.modelinfo["qwen3.context_length"] == 4096, "by any name that a chat takes, before it is here"
    assert "owner/toy" not in names(client)
    assert client.pull("owner/toy").status == "success"
    assert "owner/toy" in names(client)
    answer = client.generate("owner/toy", "The sea", options={"num_predict": 4, "seed": 1})
    assert answer.eval_count == 4
    # Loaded, and idle: it is ended first.
    assert client.delete("owner/toy:latest").status == "success"
    assert "owner/toy" not in names(client)
    assert "owner/toy" not in {model.model for model in client.ps().models}
    refused(lambda: client.delete("owner/toy"), "no model 'owner/toy'", 404)
    hub.repos.pop("owner/toy")
    refused(lambda: client.generate("owner/toy", "The sea"), "the hub has no repo owner/toy", 404)


def test_a_stream_says_how_far_it_is(client: Any, hub: HubServer) -> None:
    hub.add("owner/large", text_files() | {"model.safetensors": BIG})
    lines = list(client.pull("owner/large", stream=True))
    assert lines[0].status == "pulling manifest"
    steps = [line for line in lines if line.digest]
    (digest,) = {line.digest for line in steps}
    assert steps[-1].completed == steps[-1].total > len(BIG)
    assert all(line.status == f"pulling {digest[7:19]}" for line in steps)
    assert [line.status for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    (answer,) = [model for model in client.list().models if model.model == "owner/large"]
    assert digest == f"sha256:{answer.digest}"
    hub.requests.clear()
    assert client.pull("owner/large").status == "success", "and again, which brings nothing new"
    assert not hub.requests_for("GET", ".safetensors")


def test_the_asynchronous_client_pulls_too(gateway: Gateway, hub: HubServer) -> None:
    hub.add("owner/named", text_files())

    async def pull() -> list[str]:
        client = ollama.AsyncClient(host=gateway.url, timeout=PATIENCE)
        return [line.status async for line in await client.pull("named", stream=True)]

    assert asyncio.run(pull())[-1] == "success"
    assert {"owner/named", "named"} <= names(ollama.Client(host=gateway.url))


def test_a_client_that_leaves_stops_its_pull_and_the_next_one_continues_it(
    gateway: Gateway, client: Any, hub: HubServer
) -> None:
    hub.add("owner/cut", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 8_000_000
    with httpx2.stream(
        "POST", f"{gateway.url}/api/pull", json={"name": "owner/cut"}, timeout=PATIENCE
    ) as answer:
        for line in answer.iter_lines():
            if json.loads(line).get("completed", 0) > 1_000_000:
                break
    hub.pause_after = None
    assert client.pull("owner/cut").status == "success"
    assert (hub.requests_for("GET", "/storage/owner/cut/model.safetensors")[-1].start or 0) > 1_000_000


def test_two_that_pull_the_same_share_it(gateway: Gateway, hub: HubServer) -> None:
    hub.add("owner/shared", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 8_000_000

    async def both() -> tuple[list[Any], list[Any]]:
        client = ollama.AsyncClient(host=gateway.url, timeout=PATIENCE)
        lines: tuple[list[Any], list[Any]] = ([], [])

        async def pull(mine: list[Any]) -> None:
            async for line in await client.pull("owner/shared", stream=True):
                mine.append(line)

        pulls = [asyncio.create_task(pull(mine)) for mine in lines]
        await until(lambda: all(any(line.completed for line in mine) for mine in lines))
        hub.pause_after = None
        await asyncio.gather(*pulls)
        return lines

    for lines in asyncio.run(both()):
        assert lines[-1].status == "success"
    requests = hub.requests_for("GET", "/storage/owner/shared/model.safetensors")
    assert len({request.start for request in requests}) == len(requests), "nothing came twice"


def test_only_a_few_are_pulled_at_once_and_others_go_on_meanwhile(gateway: Gateway, hub: HubServer) -> None:
    for number in range(5):
        hub.add(f"owner/many{number}", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 8_000_000

    async def several() -> None:
        client = ollama.AsyncClient(host=gateway.url, timeout=PATIENCE)
        streams = [await client.pull(f"owner/many{number}", stream=True) for number in range(4)]
        for stream in streams:
            assert (await anext(stream)).status == "pulling manifest"
        with pytest.raises(ollama.ResponseError, match="4 models are being pulled") as caught:
            await client.pull("owner/many4")
        assert caught.value.status_code == 503
        assert (await client.generate("here", "The sea", options={"num_predict": 2})).eval_count == 2
        for stream in streams:
            await stream.aclose()

    try:
        asyncio.run(several())
    finally:
        hub.pause_after = None
    client = ollama.Client(host=gateway.url, timeout=PATIENCE)
    assert client.pull("owner/many0").status == "success"


def test_a_gateway_that_is_told_to_stop_ends_its_pulls(place: Path, hub: HubServer) -> None:
    hub.add("owner/late", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 8_000_000
    with Gateway({}, memory=2**36) as gateway:
        stream = ollama.Client(host=gateway.url, timeout=PATIENCE).pull("owner/late", stream=True)
        next(stream)
        gateway.process.terminate()
        with pytest.raises(ollama.ResponseError, match="the server is stopping"):
            list(stream)
        assert gateway.process.wait(PATIENCE) == 0
        assert "Traceback" not in gateway.log
    hub.pause_after = None


def test_what_is_here_and_of_no_hub_needs_no_pull(client: Any, place: Path) -> None:
    stored(place, "present/latest")
    for name in ("here", "here:latest", "present", "present:latest"):
        lines = list(client.pull(name, stream=True))
        assert lines[-1].status == "success"
        assert lines[1].completed == lines[1].total


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("qwen3:4b", "pull takes hub repos: owner/name", 400),
        ("ollama:qwen3", "ollama pull qwen3", 400),
        ("owner/absent", "the hub has no repo owner/absent", 404),
        ("../../etc", "is not a hub repo", 400),
        ("/etc", "is not a hub repo", 400),
        ("folder:/etc", "is not a hub repo", 400),
    ],
)
def test_what_cannot_be_pulled_is_said(client: Any, name: str, words: str, status: int) -> None:
    refused(lambda: client.pull(name), words, status)
    refused(lambda: list(client.pull(name, stream=True)), words, status)


def test_a_model_that_could_not_be_run_is_refused_before_it_comes(client: Any, hub: HubServer) -> None:
    hub.add("owner/odd", text_files() | {"config.json": {"model_type": "no_such"}})
    refused(lambda: client.pull("owner/odd"), "no architecture 'no_such'")
    assert not hub.requests_for("GET", "/owner/odd/model.safetensors")


def test_nor_is_one_that_is_here_and_cannot_be_run_a_success(client: Any, place: Path) -> None:
    stored(place, "odd/latest", model_type="no_such")
    refused(lambda: client.pull("odd"), "odd:latest is on this machine, but cannot be run")
    refused(lambda: list(client.pull("odd", stream=True)), "no architecture 'no_such'")


# -- delete, copy


def test_a_copy_is_a_second_name_and_each_is_deleted_alone(client: Any, place: Path) -> None:
    stored(place, "first/latest", rope_theta=1)
    stored(place, "other/latest", rope_theta=2)
    assert client.copy("first", "mine/second:v1").status == "success"
    assert client.copy("first", "mine/second:v1").status == "success", "twice is as good as once"
    digests = {model.model: model.digest for model in client.list().models}
    assert digests["mine/second:v1"] == digests["first:latest"]
    refused(lambda: client.copy("first", "other"), "other:latest exists and is another model")
    assert client.delete("first").status == "success"
    assert "mine/second:v1" in names(client), "with its blobs: a model that lacks them is not listed"
    client.delete("mine/second:v1")
    client.delete("other")
    assert not {"first:latest", "mine/second:v1", "other:latest"} & names(client)


@pytest.mark.parametrize(
    ("source", "destination", "words", "status"),
    [
        ("here", "mine", "add an alias to the configuration", 400),
        ("here", "named", "is already an alias", 400),
        ("here", "../../../tmp/x", "is not a name for the Ollama store", 400),
        ("here", "a/b/c/d", "is not a name for the Ollama store", 400),
        ("nobody", "mine", "not found", 404),
    ],
)
def test_what_cannot_be_copied_is_said(
    client: Any, source: str, destination: str, words: str, status: int
) -> None:
    refused(lambda: client.copy(source, destination), words, status)


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("here", "is an alias", 400),
        ("named:latest", "is an alias", 400),
        ("nobody", "no model 'nobody'", 404),
        ("/etc", "no model '/etc'", 404),
        ("folder:/etc", "no model", 404),
        ("../store", "no model", 404),
    ],
)
def test_what_cannot_be_deleted_is_said(client: Any, name: str, words: str, status: int) -> None:
    refused(lambda: client.delete(name), words, status)


def test_a_model_in_use_is_not_deleted(client: Any, hub: HubServer) -> None:
    files = {path.name: path.read_bytes() for path in toy_text().iterdir()}
    hub.add("owner/busy", files)
    client.pull("owner/busy")
    stream = client.generate("owner/busy", "The sea", stream=True, options={"num_predict": 400})
    next(stream)
    refused(lambda: client.delete("owner/busy"), "is in use", 503)
    stream.close()

    def deleted() -> bool:
        with contextlib.suppress(ollama.ResponseError):  # until its runner has noticed that nobody reads
            client.delete("owner/busy")
        return "owner/busy" not in names(client)

    wait_until(deleted)


def test_what_a_model_of_the_store_comes_with_holds_where_the_request_says_nothing(
    client: Any, place: Path
) -> None:
    root, params = place / "store", {"temperature": 0, "num_predict": 5, "stop": ["##"], "num_keep": 4}
    store_model(root, f"{LIBRARY}/bare/latest", toy_text())
    store_model(root, f"{LIBRARY}/made/latest", toy_text(), params=params, system="Be brief.", license="free")
    shown = client.show("made")
    assert shown.parameters.splitlines()[:2] == [f"{'temperature':<30} 0", f"{'num_predict':<30} 5"]
    assert shown.license == "free"

    made = client.generate("made", "The sea")
    options = {"temperature": 0, "num_predict": 5}
    assert made.eval_count == 5
    assert made.response == client.generate("bare", "The sea", system="Be brief.", options=options).response
    ask = [{"role": "user", "content": "The sea"}]
    assert client.chat("made", ask).message.content == made.response
    # The request has the last word.
    other = client.generate("made", "The sea", system="Be long.", options={"num_predict": 3})
    assert other.eval_count == 3
    bare = client.generate("bare", "The sea", system="Be long.", options={"num_predict": 3})
    assert other.prompt_eval_count == bare.prompt_eval_count
    assert (
        client.chat("made", [{"role": "system", "content": "x"}, *ask]).prompt_eval_count
        < made.prompt_eval_count
    )

    store_model(root, f"{LIBRARY}/wrong/latest", toy_text(), params={"temperature": "hot"})
    refused(lambda: client.generate("wrong", "The sea"), "the parameters of wrong:latest cannot be used")


def test_bodies_that_are_no_requests_are_400s(gateway: Gateway) -> None:
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/copy")):
        for body in (b"", b"nonsense", b"[]", b"{}", b'{"model": 3, "source": 3}', b'{"name": "", "source": "", "destination": ""}'):  # fmt: skip
            answer = gateway.http.request(method, path, content=body)
            assert answer.status_code == 400, (path, body, answer.text)
            assert isinstance(answer.json()["error"], str)
