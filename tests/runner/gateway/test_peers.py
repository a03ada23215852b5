"""A model that gateways on other machines serve: here other processes, which come and go."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runner.config.values import count_or_addresses
from runner.errors import BadRequest
from runner.gateway.peer import _naming
from runner.gateway.places import Place
from tests.runner.gateway.live import Gateway, Streaming
from tests.runner.live import events
from tests.runner.pretend import pretend_model as pretended
from tests.runner.pretend import tell
from tests.waiting import PATIENCE


def pretend_model(folder: Path, **behaviour: Any) -> Path:
    """Complete enough to be listed by the gateway that has it."""
    pretended(folder, **behaviour)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def front(addresses: list[str], name: str = "m", **settings: Any) -> Gateway:
    """A gateway that has no such model of its own, unless the addresses say `local`."""
    return Gateway(settings.pop("folders", {}), addresses={name: addresses}, grace=0.5, **settings)


def held(gateway: Gateway, count: int, name: str = "m") -> list[Streaming]:
    """Requests that have begun, and go on once their model is told to answer."""
    return [Streaming(gateway, name, held=True) for _ in range(count)]


def runners(streams: list[Streaming]) -> set[int]:
    return {stream.seen[0]["pid"] for stream in streams}


def places(gateway: Gateway) -> list[bool]:
    return [place["ready"] for place in gateway.models()["m"]["replicas"]]


def pid_of(gateway: Gateway) -> Any:
    return next(iter(gateway.models().values()))["pid"]


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


@pytest.mark.parametrize(
    "value",
    [
        [], ["local"], ["https://mac-1"], ["http://mac-1", "http://mac-1"], ["mac-1:11435"], [1], "http://mac-1", 0, {},
        ["http://user:key@mac-1"], ["http://mac-1/?q"], ["http://mac 1"], [f"http://mac-{at}" for at in range(65)],
    ],
)  # fmt: skip
def test_what_is_no_list_of_addresses_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        count_or_addresses(1, 64).parse(value)


def test_a_number_or_addresses_are_taken() -> None:
    kind = count_or_addresses(1, 64)
    assert kind.parse(3) == 3
    assert kind.parse(["local", "http://[::1]:9/a/b:q4"]) == ("local", "http://[::1]:9/a/b:q4")


def test_an_address_may_say_what_the_model_is_called_there() -> None:
    assert Place.parse("http://mac-1", "m") == Place("mac-1", 11435, "m")
    assert Place.parse("http://[::1]:9/owner/name:Q4_K_M", "m") == Place("::1", 9, "owner/name:Q4_K_M")
    assert Place.parse("http://mac-1/a%20b/", "m").model == "a b"
    with pytest.raises(BadRequest, match="port"):
        Place.parse("http://mac-1:99999", "m")


def test_only_the_name_of_a_request_is_changed() -> None:
    body = b'{"model": "a", "prompt": "\\u00e9", "options": {"seed": 18446744073709551615, "x": 1.0}}'
    assert json.loads(_naming(body, "b")) == {**json.loads(body), "model": "b"}
    assert _naming(b"", "b") == b""
    assert _naming(b"[1", "b") == b"[1"


def test_requests_go_to_the_least_busy_machine(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m", events=3)
    with (
        Gateway({"m": folder}, grace=0.5) as one,
        Gateway({"other": folder}, grace=0.5) as two,
        front([one.url, f"{two.url}/other"]) as gateway,
    ):
        streams = held(gateway, 2)
        assert runners(streams) == {pid_of(one), pid_of(two)}
        assert places(gateway) == [True, True]
        assert gateway.models()["m"]["memory"] == 0
        tell(folder, "answer")
        assert all(stream.last()["done"] for stream in streams)
        assert [one.models()["m"]["active"], two.models()["m"]["active"]] == [0, 0]


def test_the_work_ends_there_when_the_client_leaves_here(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with Gateway({"m": folder}, grace=0.5) as one, front([one.url]) as gateway:
        body = {"model": "m", "prompt": "x", "held": True}
        with httpx2.stream("POST", f"{gateway.url}/completion", json=body, timeout=PATIENCE) as response:
            lines = response.iter_lines()
            next(lines)
            assert one.models()["m"]["active"] == 1
        one.wait_until(lambda: one.models()["m"]["active"] == 0)


def test_this_machine_may_be_one_of_them(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with (
        Gateway({"m": folder}, grace=0.5) as other,
        front(["local", f"{other.url}/m"], str(folder), folders={"m": folder}) as gateway,
    ):
        streams = held(gateway, 2)
        assert len(runners(streams)) == 2
        assert pid_of(other) in runners(streams)
        assert gateway.models()["m"]["memory"] > 0
        tell(folder, "answer")
        assert all(stream.last()["done"] for stream in streams)


def test_a_machine_that_ends_fails_its_own_requests_alone_and_comes_back(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with (
        Gateway({"m": folder}, grace=0.5) as one,
        Gateway({"m": folder}, grace=0.5) as two,
        front([one.url, two.url]) as gateway,
    ):
        streams = held(gateway, 2)
        doomed, other = sorted(streams, key=lambda stream: stream.seen[0]["pid"] != pid_of(one))
        one.process.send_signal(signal.SIGKILL)
        assert "127.0.0.1" in doomed.last()["error"]
        gateway.wait_until(lambda: places(gateway) == [False, True])
        assert runners(held(gateway, 2)) == {pid_of(two)}
        tell(folder, "answer")
        assert other.last()["done"]
        with Gateway({"m": folder}, grace=0.5, port=port_of(one)):
            gateway.wait_until(lambda: places(gateway) == [True, True])


def test_a_request_for_a_machine_that_has_just_ended_goes_to_another(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with (
        Gateway({"m": folder}, grace=0.5) as one,
        Gateway({"m": folder}, grace=0.5) as two,
        front([one.url, two.url], health_every=60) as gateway,
    ):
        assert runners(held(gateway, 1)) == {pid_of(one)}
        two.process.send_signal(signal.SIGKILL)
        two.process.wait(PATIENCE)
        # Nobody has looked whether it is healthy; it is the less busy one.
        assert runners(held(gateway, 2)) == {pid_of(one)}


def test_a_folder_of_this_machine_is_not_named_on_others(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with (
        Gateway({"m": folder}, grace=0.5) as other,
        front(["local", other.url], str(folder), folders={"m": folder}) as gateway,
    ):
        assert len(runners(held(gateway, 2))) == 2
        assert gateway.http.get("/models").json()["models"][0]["replicas"][1]["ready"]
        tell(folder, "answer")


def test_where_no_machine_answers_a_request_fails_with_the_reason(tmp_path: Path) -> None:
    with front(["http://127.0.0.1:9"]) as gateway:
        answer = gateway.ask("m")
        assert answer.status_code == 500
        assert "127.0.0.1:9" in answer.json()["error"]
        assert gateway.http.get("/healthz").status_code == 200


def test_a_model_that_is_unknown_there_is_named(tmp_path: Path) -> None:
    with Gateway({}, grace=0.5) as other, front([other.url]) as gateway:
        assert "has no model m" in gateway.ask("m").json()["error"]


def test_the_key_of_the_others_is_sent_to_them(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with Gateway({"m": folder}, key="theirs", keys=["theirs"], grace=0.5) as other:
        with front([other.url]) as gateway:
            assert "needs its API key" in gateway.ask("m").json()["error"]
        with front([other.url], replica_key="theirs") as gateway:
            assert events(gateway.ask("m", events=1))[-1]["done"]
            assert "theirs" not in gateway.log


def test_no_request_goes_in_circles(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "m")
    with Gateway({}, grace=0.5) as gone:
        port = port_of(gone)
    name = str(folder)
    with (
        front(["local", f"http://127.0.0.1:{port}/m"], name, folders={"m": folder}) as one,
        front(["local", f"{one.url}/m"], name, folders={"m": folder}, port=port) as two,
    ):
        own = set()
        for gateway in (one, two, one):
            own |= runners(held(gateway, 3))
        assert len(own) == 2
        tell(folder, "answer")
        one.wait_until(
            lambda: not any(model["active"] for model in (*one.models().values(), *two.models().values()))
        )
