"""The first rank of a model that is spread over several devices: starts the others, and leads them."""

import asyncio

from models.config import read_json
from models.files import LocalModel
from models.language.distributed.coordinator import Leader
from models.language.distributed.sharding import check_shardable
from runner.distributed.launch import Begin, Others, World
from runner.engine.text.worker import TextSettings, cache_limit


def lead(
    local: LocalModel,
    model: str,
    settings: TextSettings,
    world: World,
    others: Others,
    loop: asyncio.AbstractEventLoop,
) -> Leader:
    """On the GPU thread, before it loads its own share. `model`: its name, with which the others find it too.

    What they read from the environment is in ours already, since MLX reads it as it is imported.
    """
    check_shardable(local.name, read_json(local.folder / "config.json"), world.size)
    begins = [
        Begin(
            rank,
            world.backend,
            world.environment(rank),
            model,
            settings.float32,
            settings.kv_bits,
            settings.context,
            settings.batch,
            cache_limit(settings),
        )
        for rank in range(1, world.size)
    ]
    with world:
        wires = asyncio.run_coroutine_threadsafe(others.start(begins), loop).result()
        return Leader(world.backend, wires)
