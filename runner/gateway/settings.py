"""The settings of a gateway."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    host: str = "127.0.0.1"
    port: int = 11435
    # Loaded at the start. They are trusted, so they may be folders, which clients name exactly as given here.
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    # Options of a model's runner, by the model's name: `--context 4096`.
    options: Callable[[str], Sequence[str]] = lambda model: ()
    memory: int | None = None  # bytes for all models; None: those of the device, less a margin
    force: bool = False  # load models even if the memory estimate says they do not fit
    keep_alive: float = 300.0  # seconds after a model's last request; below 0: without limit
    keep_alive_of: Callable[[str], float | None] = lambda model: None  # overrides for single models, by name
    replicas: int = 1  # runners of each picture model, each on a card of its own where there are cards
    # Overrides for single models, by name: how many here, or the addresses of gateways on other machines.
    replicas_of: Callable[[str], int | tuple[str, ...] | None] = lambda model: None
    replica_key: str | None = None  # which those gateways ask for
    max_loaded: int | None = None
    queue: int = 512  # requests that may wait for models to load
    grace: float = 10.0  # seconds for requests in flight at shutdown
    stall: float = 30.0  # seconds after which a client that reads nothing is dropped
    health_every: float = 5.0
    unresponsive: float = 30.0  # seconds without a response after which a runner is killed
    load_timeout: float | None = None  # seconds; 0: no limit; None: DIPTYCH_LOAD_TIMEOUT, or five minutes
    store: bool = True  # responses and conversations, in the user's state folder
    store_size: int = 10**9  # bytes, of all of them
    store_age: float = 30 * 86400.0  # seconds since they were last continued
    gallery: bool = True  # pictures that the page draws, in the user's state folder
    gallery_size: int = 10 * 10**9  # bytes, of all of them
    gallery_pictures: int = 10_000
    loras: str | None = None  # the folder of adapters
    controlnets: str | None = None  # the folder of ControlNets
    tiny_vae: str | None = None  # a tiny autoencoder
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()  # of web pages that may send requests: `https://chat.example.org`
    hosts: tuple[str, ...] = ()  # further names of this machine
