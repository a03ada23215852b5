"""Every option of the configuration file: its kind, its default and its help text."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models.checkpoint.quantization_formats import FORMATS
from runner.config.values import (
    Kind,
    bits,
    count_or_addresses,
    duration,
    hosts,
    one_of,
    origins,
    size,
    text,
    texts,
    whole,
    yes_or_no,
)
from runner.inspect.image_backend import CHOICES
from runner.protocol.speculate import MOST_DRAFTED


@dataclass(frozen=True)
class Option:
    kind: Kind
    default: Any
    about: str
    secret: bool = False


SPECULATE = ("lookup", "off")

# [serve]: the gateway. In the environment: DIPTYCH_ and the name in capitals.
SERVE: Mapping[str, Option] = MappingProxyType(
    {
        "host": Option(text(), "127.0.0.1", "address to listen on"),
        "port": Option(
            whole(0, 65535), 11435, "port to listen on; 0 picks a free one and prints it on standard output"
        ),
        "memory": Option(
            size(), None, "memory for all models together, such as 24GB (default: chosen for the device)"
        ),
        "keep_alive": Option(
            duration(), 300.0, "how long a model stays loaded after its last request; -1 means forever"
        ),
        "replicas": Option(
            whole(1, 64), 1, "processes per picture model, one on each GPU; on the CPU they share it"
        ),
        "replica_key": Option(
            text(), None, "key for the other machines that models name as their replicas", secret=True
        ),
        "max_loaded": Option(
            whole(1), None, "how many models may be loaded at a time (default: as many as fit)"
        ),
        "queue": Option(whole(1), 512, "how many requests may wait for a model to load"),
        "load_timeout": Option(
            duration(0), 300.0, "give up loading a model after this long without progress; 0 means never"
        ),
        "grace": Option(
            duration(0), 10.0, "how long requests in flight may take to finish when the gateway stops"
        ),
        "stall": Option(duration(1), 30.0, "disconnect a client that has read nothing for this long"),
        "speculate": Option(
            one_of(*SPECULATE),
            None,
            "lookup: language models draft tokens ahead from what the text repeats, and check several in one step "
            "(default: off)",
        ),
        "speculate_tokens": Option(
            whole(1, MOST_DRAFTED), None, "how many tokens to draft ahead at most (default: 16)"
        ),
        "store": Option(yes_or_no(), True, "keep responses, for clients that continue them by their id"),
        "store_size": Option(
            size(), 10**9, "how much may be stored; then the oldest are dropped (default: 1GB)"
        ),
        "store_age": Option(
            duration(1), 30 * 86400.0, "how long responses are stored after they were last continued"
        ),
        "gallery": Option(yes_or_no(), True, "keep the pictures that the page draws, and their recipes"),
        "gallery_size": Option(
            size(),
            10 * 10**9,
            "how large the gallery may become; then the oldest pictures are dropped (default: 10GB)",
        ),
        "gallery_pictures": Option(whole(1), 10_000, "how many pictures the gallery may hold"),
        "loras": Option(
            text(),
            None,
            "folder of adapters (LoRA) for pictures: safetensors files, which requests name by their names",
        ),
        "controlnets": Option(
            text(),
            None,
            "folder of ControlNets for pictures: folders in the layout of diffusers, which requests name by their names",
        ),
        "tiny_vae": Option(
            text(),
            None,
            "tiny autoencoder for pictures (a folder or a hub repository, such as madebyollin/taef1): for previews, and where a "
            "request says so",
        ),
        "force": Option(yes_or_no(), False, "load models even if the memory estimate says they do not fit"),
        "api_key": Option(
            text(),
            None,
            "key that clients must send as a bearer token; required when listening on an address other than loopback",
            secret=True,
        ),
        "api_key_file": Option(text(), None, "file with API keys, one per line"),
        "allow_origin": Option(
            origins(),
            (),
            "web origin that may call the API, such as https://chat.example.org or https://*.example.org, or * for any",
        ),
        "allow_host": Option(
            hosts(), (), "another host name of this machine that clients may use, or * for any"
        ),
    }
)

# [models.NAME]: how one model is loaded; without an entry, the runner or the gateway decides.
MODEL: Mapping[str, Kind] = MappingProxyType(
    {
        "context": whole(1),
        "kv_bits": bits(2, 3, 4, 6, 8),
        "cache_bytes": size(least=0),
        "kv_memory": size(least=1),
        "kv_disk": size(least=0),
        "kv_disk_folder": text(),
        "batch": whole(1),
        "tensor_parallel": whole(1, 64),
        "speculate": one_of(*SPECULATE),
        "draft": text(),
        "lora": texts(),
        "speculate_tokens": whole(1, MOST_DRAFTED),
        "dtype": one_of("auto", "float32", "checkpoint"),
        "quantize": one_of(*FORMATS),
        "memory": size("auto", "resident", "staged"),
        "engine": one_of(*CHOICES),
        "warm_up": yes_or_no(),
        "keep_alive": duration(),
        "replicas": count_or_addresses(1, 64),
    }
)

# Not allowed under [models."*"]: options of some models only, and those that [serve] sets for all.
SOME = ("quantize", "memory", "engine", "keep_alive", "replicas", "tensor_parallel", "draft", "lora")
# Options of the gateway; `diptych runner` has no such flags.
GATEWAY_ONLY = ("keep_alive", "replicas")
