"""Every option that can stand in the configuration: its kind, and what is in force when nobody says anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipelines.settings import QUANTIZATIONS
from runner.config.values import Kind, bits, duration, hosts, one_of, origins, size, text, whole, yes_or_no
from runner.inspect.image_backend import CHOICES


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
        "port": Option(
            whole(0, 65535), 11435, "port to listen on; 0 takes a free one and prints it on stdout"
        ),
        "memory": Option(
            size(), None, "what all models together may take, such as 24GB (default: by the device)"
        ),
        "keep_alive": Option(duration(), 300.0, "how long a model stays after its last request; -1 for good"),
        "replicas": Option(
            whole(1, 64), 1, "runners of each picture model, on a GPU each; on a processor they share it"
        ),
        "max_loaded": Option(whole(1), None, "models that may be loaded at once (default: as many as fit)"),
        "queue": Option(whole(1), 512, "requests that may wait for their model"),
        "load_timeout": Option(
            duration(0), 300.0, "how long the progress of a load may stand still; 0 for as long as it likes"
        ),
        "grace": Option(
            duration(0), 10.0, "how long requests in flight may take when the gateway is stopped"
        ),
        "stall": Option(duration(1), 30.0, "how long a client may read nothing before it is dropped"),
        "force": Option(yes_or_no(), False, "load models that by their estimate cannot fit"),
        "api_key": Option(
            text(), None, "clients must send it as a bearer token; needed beyond loopback", secret=True
        ),
        "api_key_file": Option(text(), None, "a file of such keys, one a line"),
        "allow_origin": Option(
            origins(), (), "pages elsewhere that may call, such as https://chat.example.org"
        ),
        "allow_host": Option(hosts(), (), "other names that this machine is called by"),
    }
)

# [models.NAME]: how one model is loaded; what is absent is the runner's own choice, or the gateway's.
MODEL: Mapping[str, Kind] = MappingProxyType(
    {
        "context": whole(1),
        "kv_bits": bits(2, 3, 4, 6, 8),
        "cache_bytes": size(least=0),
        "batch": whole(1),
        "tensor_parallel": whole(1, 64),
        "dtype": one_of("auto", "float32", "checkpoint"),
        "quantize": one_of(*QUANTIZATIONS),
        "memory": size("auto", "resident", "staged"),
        "engine": one_of(*CHOICES),
        "warm_up": yes_or_no(),
        "keep_alive": duration(),
        "replicas": whole(1, 64),
    }
)

# What only some models take, and what [serve] says for all: nothing to say of "*".
SOME = ("quantize", "memory", "engine", "keep_alive", "replicas", "tensor_parallel")
# What is no flag of `diptych runner`.
OF_THE_GATEWAY = ("keep_alive", "replicas")
