"""A runner that behaves as its model's pretend.json says: a real process, up in no time, without MLX.

Run as a script it takes a runner's arguments. Tests put it in the place of `python -m runner` with `pretend_runners`.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(next(a for a in sys.argv if a.startswith("--model=")).split("=", 1)[1].removeprefix("folder:")) if __name__ == "__main__" else Path()  # fmt: skip
RUNNER = (sys.executable, "-P", str(Path(__file__).resolve()))
# Of a model that can be run, as far as anyone can see who does not load it; without layers its cache takes nothing.
CONFIG = {"model_type": "llama", "hidden_size": 8, "vocab_size": 64, "rms_norm_eps": 1e-5}

DONE = {
    "done": True, "done_reason": 0, "stop_reason": "stop", "prompt_eval_count": 1, "prompt_eval_duration": 1,
    "eval_count": 1, "eval_duration": 1, "cached": 0,
}  # fmt: skip


def pretend_model(folder: Path, weights: int = 1000, **behaviour: Any) -> Path:
    """A model of so many bytes (declared, not written) whose runner behaves so:

    load: seconds until it is healthy; still: the same without any progress; never: it is never healthy; idle: it says
    that it does nothing while it loads; die: exit code and last line while loading;
    events, pause: how many events a completion has, and seconds between them; broken: no last event; line: bytes of
    content in every event; say: the contents of a completion's events, or the events; memory: bytes it reports; deaf: seconds after which it answers no health check; slow: seconds that a health check takes;
    stubborn: it takes no interrupt; kill_at: events after which it kills itself; held: it is healthy only once it is
    told "load". A completion that asks for "held", and every one of a model with waits, goes on after its first event once it is told "answer". Told "deaf",
    it answers no health check any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps({"w": {"dtype": "U8", "shape": [weights], "data_offsets": [0, weights]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + weights)
    (folder / "pretend.json").write_text(json.dumps(behaviour))
    return folder


def tell(folder: Path, word: str) -> None:
    """Tell the runner of such a model, and those that come after it."""
    (folder / word).touch()


def _has_word(word: str) -> bool:
    return (FOLDER / word).exists()


class Pretend:
    def __init__(self, **behaviour: Any) -> None:
        self.load = float(behaviour.get("load", 0))
        self.never = bool(behaviour.get("never"))
        self.held = bool(behaviour.get("held"))
        self.waits = bool(behaviour.get("waits"))
        self.still = float(behaviour.get("still", 0))
        self.idle = bool(behaviour.get("idle"))
        self.events = int(behaviour.get("events", 3))
        self.pause = float(behaviour.get("pause", 0))
        self.broken = bool(behaviour.get("broken"))
        self.line = int(behaviour.get("line", 1))
        self.say: list[str | dict[str, Any]] = behaviour.get("say") or []
        self.memory = int(behaviour.get("memory", 1000))
        self.deaf = float(behaviour.get("deaf", 1e9))
        self.slow = float(behaviour.get("slow", 0))
        self.kill_at = int(behaviour.get("kill_at", -1))
        self.began = time.monotonic()
        self.active = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode().split(" ", 2)
                length = next(
                    (int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                await self.answer(method, path, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/health":
            await self.health(writer)
        elif path == "/v1/status":
            if self.is_deaf:
                await asyncio.sleep(1e6)
            await asyncio.sleep(self.slow)
            self.whole(writer, 200, {"Status": 0, "Progress": 100, "ContextLength": 64, "Memory": self.memory,
                                     "mode": "text", "queue": 0, "active": self.active})  # fmt: skip
        elif path == "/completion":
            self.active += 1
            try:
                await self.complete(writer, json.loads(body))
            finally:
                self.active -= 1
        elif path == "/tokenize":
            self.whole(writer, 200, {"tokens": [len(json.loads(body)["content"])]})
        else:
            self.whole(writer, 404, {"error": f"nothing at {path}"})

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_deaf(self) -> bool:
        return self.now > self.deaf or _has_word("deaf")

    async def health(self, writer: asyncio.StreamWriter) -> None:
        if self.is_deaf:
            await asyncio.sleep(1e6)
        never = self.never or (self.held and not _has_word("load"))
        if never or self.now < max(self.load, self.still):
            progress = 0.0 if never or self.still else round(self.now / self.load, 3)
            idle = self.now if self.idle else 0.0
            self.whole(writer, 503, {"status": "loading", "progress": progress, "idle": idle})
        else:
            self.whole(writer, 200, {"status": "ok"})

    async def complete(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        if request.get("prompt") is None and not request.get("messages"):
            self.whole(writer, 400, {"error": "prompt is missing"})
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(len(self.say) or int(request.get("events", self.events))):
            if number == self.kill_at:
                print("out of memory, it says", file=sys.stderr, flush=True)
                os.kill(os.getpid(), 9)
            said = self.say[number] if self.say else "x" * self.line
            event = said if isinstance(said, dict) else {"content": said}
            self.chunk(writer, {**event, "token": number, "pid": os.getpid()})
            await writer.drain()
            while (self.waits or request.get("held")) and not _has_word("answer"):  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.01)
            await asyncio.sleep(float(request.get("pause", self.pause)))
        if not self.broken:
            self.chunk(writer, DONE)
        writer.write(b"0\r\n\r\n")

    def whole(self, writer: asyncio.StreamWriter, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)

    def chunk(self, writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        writer.write(b"%x\r\n" % len(line) + line + b"\r\n")


async def main() -> None:
    behaviour = json.loads((FOLDER / "pretend.json").read_text())
    if behaviour.get("log"):
        print(behaviour["log"], file=sys.stderr, flush=True)
    if "die" in behaviour:
        code, line = behaviour["die"]
        print(line, file=sys.stderr, flush=True)
        sys.exit(code)
    pretend = Pretend(**behaviour)
    server = await asyncio.start_server(pretend.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (2, 15):
        loop.add_signal_handler(number, (lambda: None) if behaviour.get("stubborn") else stopping.set)
    # The end of stdin is the end of the parent.
    gone = loop.run_in_executor(None, sys.stdin.buffer.read)
    ended = asyncio.create_task(stopping.wait())
    await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
