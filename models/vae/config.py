"""The configurations of AutoencoderKL and AutoencoderKLFlux2."""

from dataclasses import dataclass

from models.config import Config, ConfigError


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """What both have in common."""

    block_out_channels: tuple[int, ...]
    latent_channels: int
    in_channels: int = 3
    out_channels: int = 3
    layers_per_block: int = 1
    norm_num_groups: int = 32
    act_fn: str = "silu"
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    down_block_types: tuple[str, ...] | None = None
    up_block_types: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key, block in (
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ):
            types = getattr(self, key)
            if types is not None and tuple(types) != (block,) * len(self.block_out_channels):
                raise ConfigError(
                    f"the autoencoder's {key} is {list(types)}; {block} for each block is supported"
                )
        if self.act_fn not in ("silu", "swish"):
            raise ConfigError(f"the autoencoder's act_fn is {self.act_fn!r}; 'silu' is supported")
        for channels in (*self.block_out_channels, *self.decoder_channels):
            if channels % self.norm_num_groups:
                raise ConfigError(
                    f"the autoencoder's block of {channels} channels does not divide into "
                    f"norm_num_groups = {self.norm_num_groups}"
                )

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        return self.block_out_channels

    @property
    def outermost(self) -> int:
        """Channels at the picture's own size, or half of those at half its size if that is more."""
        sides = (self.block_out_channels, self.decoder_channels)
        return max(max((2 * side[0], *side[1:2])) for side in sides) // 2

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class AutoencoderKLConfig(AutoencoderConfig):
    scaling_factor: float = 0.18215
    shift_factor: float | None = None


@dataclass(frozen=True)
class AutoencoderKLFlux2Config(AutoencoderConfig):
    layers_per_block: int = 2
    decoder_block_out_channels: tuple[int, ...] | None = None
    batch_norm_eps: float = 1e-4
    patch_size: tuple[int, int] = (2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch_size[0] != self.patch_size[1]:
            raise ConfigError(
                f"the autoencoder's patch_size is {list(self.patch_size)}; square ones are supported"
            )
        if len(self.decoder_channels) != len(self.block_out_channels):
            raise ConfigError(
                "the autoencoder's decoder_block_out_channels differ in number from its encoder's"
            )

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        return self.decoder_block_out_channels or self.block_out_channels
