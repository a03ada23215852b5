"""Chooses how a model's keys and values are held: in blocks, or in caches of mlx-lm's kinds."""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.nn as nn

from models.kernels.gpu import on_cuda
from models.language.batch.contiguous_rows import ContiguousRows
from models.language.batch.paged_prefill import PagedPrefill
from models.language.batch.paged_rows import PagedRows
from models.language.batch.prefill import Prefill
from models.language.batch.rows import Reader, Rows
from models.language.cache.kv_cache import Cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.corrections.rope import switching_length
from models.language.decode.mlx_lm_backend import MlxLmBackend
from models.language.decode.row_groups import RowGroups
from models.language.distributed.coordinator import Ranks
from models.language.paged.network import PagedNetwork
from models.language.pictures.inputs import PictureReader
from models.vision.interface import VisionModel

# Tokens that a pool has where no limit is set: on a card its arrays are made at once.
UNLIMITED, UNLIMITED_ON_A_CARD = 2**24, 2**16


@dataclass
class Storage:
    rows: Rows
    reader: Reader
    network: PagedNetwork | None  # None: not in blocks


def storage_for(
    model: nn.Module,
    new_cache: Callable[[], Cache],
    prefix: PrefixCache,
    capacity: int | None,
    most_padding: int,
    all_cores: Callable[[bool], None],
    ranks: Ranks,
    vision: VisionModel | None = None,
) -> Storage:
    # Ranks must take the same decisions: they follow the first rank's limits.
    limits = ranks.agree("limits of the batch", [capacity or 0, most_padding, prefix.max_bytes])
    capacity, most_padding, keep = limits[0] or None, limits[1], limits[2]
    tokens = capacity or (UNLIMITED_ON_A_CARD if on_cuda() else UNLIMITED)
    network = PagedNetwork.of(model, new_cache, tokens, keep)
    if network is not None:
        pictures = None if vision is None else PictureReader(vision, model)
        paged = PagedPrefill(network, switching_length(model), all_cores, ranks, pictures)
        return Storage(PagedRows(network), paged, network)
    groups = RowGroups(lambda: MlxLmBackend(model), most_padding)
    prefill = Prefill(model, new_cache, prefix, all_cores, ranks)
    return Storage(ContiguousRows(groups, prefix, prefill, capacity), prefill, None)
