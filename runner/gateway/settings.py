"""What a gateway is told when it starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


def _no_options(model: str) -> Sequence[str]:
    return ()


def _no_keep_alive(model: str) -> float | None:
    return None


def _no_replicas(model: str) -> int | None:
    return None


@dataclass(frozen=True)
class Settings:
    host: str = "127.0.0.1"
    port: int = 11435
    # Loaded at start, and trusted: they may be folders, which clients then name as they stand here.
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    # How a model's runner is called, by the model's name: `--context 4096`.
    options: Callable[[str], Sequence[str]] = _no_options
    memory: int | None = None  # bytes for all models; None: the device's, less a margin
    force: bool = False  # load what the estimate says will never fit
    keep_alive: float = 300.0  # seconds after a model's last request; below 0: for good
    keep_alive_of: Callable[[str], float | None] = _no_keep_alive  # what is stated for one model, by its name
    replicas: int = 1  # runners of each picture model, on a card of its own where there are cards
    replicas_of: Callable[[str], int | None] = _no_replicas  # what is stated for one model, by its name
    max_loaded: int | None = None
    queue: int = 512  # requests that may wait for a model to be loaded
    grace: float = 10.0  # seconds for what is in flight when asked to stop
    stall: float = 30.0  # seconds without a byte taken after which a client is dropped
    health_every: float = 5.0
    unresponsive: float = 30.0  # seconds without an answer after which a runner is killed
    load_timeout: float | None = None  # seconds; 0: none at all; None: DIPTYCH_LOAD_TIMEOUT, or five minutes
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()  # pages elsewhere that may call: `https://chat.example.org`
    hosts: tuple[str, ...] = ()  # names that this machine is called by, beyond its own
