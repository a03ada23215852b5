"""Every option that can stand in the configuration: its kind, and what is in force when nobody says anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipelines.settings import QUANTIZATIONS
from runner.config.kinds import Kind, bits, one_of, size, text, whole


@dataclass(frozen=True)
class Option:
    kind: Kind
    default: Any
    about: str
    secret: bool = False


# [serve]: the gateway. In the environment DIPTYCH_ and the name in capitals.
SERVE: Mapping[str, Option] = MappingProxyType(
    {
        "host": Option(text(), "127.0.0.1", "address to listen on"),
        "port": Option(whole(0, 65535), 11435, "port to listen on; 0 takes a free one"),
    }
)

# [models.NAME]: how one model is loaded; what is absent is the runner's own choice.
MODEL: Mapping[str, Kind] = MappingProxyType(
    {
        "context": whole(1),
        "kv_bits": bits(2, 3, 4, 6, 8),
        "cache_bytes": size(),
        "batch": whole(1),
        "dtype": one_of("auto", "float32", "checkpoint"),
        "quantize": one_of(*QUANTIZATIONS),
        "memory": size("auto", "resident", "staged"),
    }
)
