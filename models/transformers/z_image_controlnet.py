"""A ControlNet of Z-Image (ZImageControlNetModel): blocks beside the transformer's that see a picture, encoded as the drawn one
is, and what the transformer makes of the noise; what comes out of each is added behind one of its layers.

    modulation = network.modulation(transformer, timesteps)
    residuals = network.residuals(transformer, tokens, picture, prepared, refiner, modulation.at(i), scale)

It has no embeddings of its own but the picture's: those of the transformer serve both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from models.config import Config, ConfigError
from models.transformers.z_image import (
    Block,
    Prepared,
    Residuals,
    ZImageConfig,
    ZImageTransformer,
    padded,
)


@dataclass(frozen=True)
class ZImageControlNetConfig(Config):
    control_layers_places: tuple[int, ...]
    control_in_dim: int
    control_refiner_layers_places: tuple[int, ...] | None = None
    add_control_noise_refiner: str | None = None
    all_patch_size: tuple[int, ...] = (2,)
    all_f_patch_size: tuple[int, ...] = (1,)
    dim: int = 3840
    n_refiner_layers: int = 2
    n_heads: int = 30
    norm_eps: float = 1e-5
    qk_norm: bool = True

    def __post_init__(self) -> None:
        places = self.control_layers_places
        if not places or places[0] != 0 or list(places) != sorted(set(places)):
            raise ConfigError(
                f"ZImageControlNetConfig: control_layers_places is {list(places)}; layers in order, from 0 on, are needed"
            )
        if self.refines not in ("control_layers", "control_noise_refiner", None):
            raise ConfigError(
                f"ZImageControlNetConfig: add_control_noise_refiner is {self.refines!r}; control_layers and "
                "control_noise_refiner are supported"
            )
        if self.refines is None:
            return
        blocks = len(places) if self.refines == "control_layers" else self.n_refiner_layers
        if not 0 < len(self.refiner_places) <= blocks:
            raise ConfigError(
                f"ZImageControlNetConfig: control_refiner_layers_places is {list(self.refiner_places)}; "
                f"1 to {blocks} places are needed"
            )

    @property
    def refines(self) -> str | None:
        """Which blocks add to the transformer's refiner too."""
        return self.add_control_noise_refiner

    @property
    def refiner_places(self) -> tuple[int, ...]:
        return self.control_refiner_layers_places or ()

    def block(self) -> ZImageConfig:
        """As the transformer's blocks are configured."""
        return ZImageConfig(
            in_channels=self.control_in_dim, dim=self.dim, n_layers=0, n_refiner_layers=0, n_heads=self.n_heads,
            cap_feat_dim=0, axes_dims=(self.dim // self.n_heads,), all_patch_size=self.all_patch_size,
            all_f_patch_size=self.all_f_patch_size, norm_eps=self.norm_eps, qk_norm=self.qk_norm,
        )  # fmt: skip


class ControlModulation(NamedTuple):
    """The weights of each block's modulated norms, (step, norm, width), or of one step, (norm, width)."""

    refiner: tuple[mx.array, ...]
    layers: tuple[mx.array, ...]

    def at(self, step: int) -> "ControlModulation":
        return ControlModulation(*(tuple(norms[step] for norms in blocks) for blocks in self))


class ControlBlock(Block):
    """A block of the transformer with a projection of what it gives away, and the first with one of what it takes."""

    def __init__(self, config: ZImageConfig, first: bool) -> None:
        super().__init__(config)
        if first:
            self.before_proj = nn.Linear(config.dim, config.dim)
        self.after_proj = nn.Linear(config.dim, config.dim)


class ZImageControlNet(nn.Module):
    def __init__(self, config: ZImageControlNetConfig) -> None:
        super().__init__()
        self.config = config
        block = config.block()
        self.control_layers = [ControlBlock(block, first=not place) for place in config.control_layers_places]
        self.control_all_x_embedder = {
            name: nn.Linear(size, config.dim) for name, size in block.patches.items()
        }
        refiners = range(config.n_refiner_layers)
        if config.refines == "control_noise_refiner":
            self.control_noise_refiner: list[Block] = [
                ControlBlock(block, first=not index) for index in refiners
            ]
        elif config.refines is None:
            self.control_noise_refiner = [Block(block) for _ in refiners]

    @property
    def _refiner(self) -> Sequence[Block]:
        return self.control_layers if self.config.refines == "control_layers" else self.control_noise_refiner

    def modulation(self, transformer: ZImageTransformer, timesteps: Sequence[float]) -> ControlModulation:
        """For all steps, as the transformer's."""
        embedded = transformer.t_embedder(timesteps, transformer.config.t_scale, transformer.dtype)
        blocks = (self._refiner, self.control_layers)
        return ControlModulation(*(tuple(one.modulation(embedded) for one in part) for part in blocks))

    def residuals(
        self,
        transformer: ZImageTransformer,
        tokens: mx.array,
        picture: mx.array,
        prepared: Prepared,
        refiner: Sequence[mx.array],
        modulation: ControlModulation,
        scale: mx.array,
    ) -> Residuals:
        """For the noise `tokens` and the encoded control picture, (1 or batch, token, features); `refiner`: the transformer's
        modulation of its own refiner."""
        caption, picture_table, table, lengths = prepared
        scale = scale.astype(caption.dtype)
        x = transformer.embed(tokens)
        seen = self._seen(transformer, picture, len(tokens))
        added: dict[int, mx.array] = {}
        if self.config.refines is None:
            for one, norms in zip(self._refiner, modulation.refiner, strict=True):
                seen = one(seen, norms, picture_table)
        else:
            seen, hints = run(self._refiner, modulation.refiner, seen, x, picture_table)
            added = dict(zip(self.config.refiner_places, hints, strict=False))
        for index, (own, norms) in enumerate(zip(transformer.noise_refiner, refiner, strict=True)):
            x = own(x, norms, picture_table)
            x = x + added[index] * scale if index in added else x
        x, seen = (mx.concatenate([part, caption], axis=1) for part in (x, seen))
        _, hints = run(self.control_layers, modulation.layers, seen, x, table, lengths)
        by_layer = dict(zip(self.config.control_layers_places, hints, strict=True))
        return tuple(
            by_layer[index] * scale if index in by_layer else None for index in range(len(transformer.layers))
        )

    def _seen(self, transformer: ZImageTransformer, picture: mx.array, batch: int) -> mx.array:
        """The control picture as the first block takes it."""
        embedder = self.control_all_x_embedder[transformer.patch]
        seen = padded(embedder(picture.astype(transformer.dtype)), transformer.x_pad_token)
        return mx.broadcast_to(seen, (batch, *seen.shape[1:]))


def run(
    blocks: Sequence[Block],
    norms: Sequence[mx.array],
    seen: mx.array,
    x: mx.array,
    table: mx.array,
    lengths: Sequence[int] | None = None,
) -> tuple[mx.array, list[mx.array]]:
    """What the last block makes of the picture, and what each gives away."""
    hints = []
    for index, (block, weights) in enumerate(zip(blocks, norms, strict=True)):
        if not index:
            seen = block.before_proj(seen) + x
        seen = block(seen, weights, table, lengths)
        hints.append(block.after_proj(seen))
    return seen, hints
