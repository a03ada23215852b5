"""mflux: its transformers and decoders at the same dimensions, random weights, called as its pipelines call them.

They compile the forward pass of FLUX.2 and Z-Image, and not of FLUX.1. mflux may be in an environment of its own, so this
imports only MLX, mflux, and what fills a network.
"""

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import mlx.core as mx
from mflux.models.common.config.model_config import ModelConfig

from models.checkpoint.random_weights import fill

if mx.default_device() == mx.cpu:
    mx.disable_compile()  # as we do there (runner/engine/device.py), which cannot be imported here

Times = dict[str, Any]
Step = Callable[[], mx.array]
PIXELS = 16  # of one side of a token, in all three families


class Engine:
    def __init__(self, name: str, job: dict[str, Any]) -> None:
        gpu = mx.default_device() == mx.gpu
        dtype = job["dtype"] or ("bfloat16" if gpu else "float32")
        self.dtype = getattr(mx, dtype)
        ModelConfig.precision = self.dtype
        self.config = {
            key: value for key, value in job["parts"]["transformer"].items() if not key.startswith("_")
        }
        self.text_tokens = job["text_tokens"]
        family = job["parts"]["transformer"]["_class_name"]
        self.network, self.vae, self.inputs = FAMILIES[family](self)
        for module in (self.network, self.vae):
            fill(module, self.dtype)
            mx.eval(module.parameters())
        versions = {
            f"mflux's {name}" if name != "mflux" else name: version(name) for name in ("mflux", "mlx")
        }
        self.built = {"dtype": dtype, "versions": versions}
        self.steps: dict[tuple[int, int], Step] = {}

    def run(self, width: int, height: int, steps: int | None, n: int) -> Times:
        """Some steps; not the prompt, nor a whole picture."""
        size = (width, height)
        if size not in self.steps:
            self.steps = {size: self.inputs(height // PIXELS, width // PIXELS)}
        mx.reset_peak_memory()
        began = time.perf_counter()
        step = [self._timed(self.steps[size]) for _ in range(steps or 4)]
        return {
            "step": step,
            "picture": [],
            "first": time.perf_counter() - began,
            "peak": mx.get_peak_memory(),
        }

    def decode(self, width: int, height: int, strips: bool) -> Times:
        latents = self.new(1, self.vae.latent_channels, height // 8, width // 8)
        mx.eval(latents)
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        seconds = self._timed(lambda: self.vae.decode(latents))
        return {"seconds": [seconds], "peak": mx.get_peak_memory() - before}

    def new(self, *shape: int) -> mx.array:
        return mx.random.normal(shape, dtype=self.dtype)

    def _timed(self, call: Step) -> float:
        began = time.perf_counter()
        mx.eval(call())
        return time.perf_counter() - began


Built = tuple[Any, Any, Callable[[int, int], Step]]


def _flux2(engine: Engine) -> Built:
    from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
    from mflux.models.flux2.model.flux2_vae.vae import Flux2VAE

    config = {key: value for key, value in engine.config.items() if key != "eps"}
    network = Flux2Transformer(**config)

    def inputs(rows: int, columns: int) -> Step:
        ids = mx.stack([mx.zeros(rows * columns), *_grid(rows, columns), mx.zeros(rows * columns)], axis=1)
        texts = mx.pad(mx.arange(engine.text_tokens)[:, None], [(0, 0), (3, 0)])
        latents = engine.new(1, rows * columns, config["in_channels"])
        text = engine.new(1, engine.text_tokens, config["joint_attention_dim"])
        half = mx.array([0.5], dtype=engine.dtype)
        run = mx.compile(
            lambda x, t: network(
                hidden_states=x,
                encoder_hidden_states=text,
                timestep=t,
                img_ids=ids,
                txt_ids=texts,
                guidance=None,
            )
        )
        return lambda: run(latents, half)

    return network, Flux2VAE(), inputs


def _z_image(engine: Engine) -> Built:
    from mflux.models.z_image.model.z_image_transformer.transformer import ZImageTransformer
    from mflux.models.z_image.model.z_image_vae.vae import VAE

    keys = ("in_channels", "dim", "n_layers", "n_refiner_layers", "n_heads", "cap_feat_dim", "axes_dims")
    network = ZImageTransformer(**{key: engine.config[key] for key in keys})

    def inputs(rows: int, columns: int) -> Step:
        latents = engine.new(engine.config["in_channels"], 1, 2 * rows, 2 * columns)
        text, sigmas = (
            engine.new(engine.text_tokens, engine.config["cap_feat_dim"]),
            mx.array([1.0, 0.5, 0.0]),
        )
        run = mx.compile(lambda x, t: network(timestep=t, x=x, cap_feats=text, sigmas=sigmas))
        return lambda: run(latents, mx.array([0.5]))

    return network, VAE(), inputs


def _flux1(engine: Engine) -> Built:
    from mflux.models.common.config.config import Config
    from mflux.models.flux.model.flux_transformer.transformer import Transformer
    from mflux.models.flux.model.flux_vae.vae import VAE

    kind = ModelConfig.schnell()
    depth, singles = engine.config["num_layers"], engine.config["num_single_layers"]
    network = Transformer(kind, depth, singles)

    def inputs(rows: int, columns: int) -> Step:
        settings = Config(kind, 4, height=PIXELS * rows, width=PIXELS * columns)
        latents, text = engine.new(1, rows * columns, 64), engine.new(1, engine.text_tokens, 4096)
        pooled = engine.new(1, 768)
        return lambda: network(1, settings, latents, text, pooled)

    return network, VAE(), inputs


def _grid(rows: int, columns: int) -> tuple[mx.array, mx.array]:
    row, column = mx.meshgrid(mx.arange(rows), mx.arange(columns), indexing="ij")
    return row.flatten(), column.flatten()


FAMILIES: dict[str, Callable[[Engine], Built]] = {
    "Flux2Transformer2DModel": _flux2,
    "ZImageTransformer2DModel": _z_image,
    "FluxTransformer2DModel": _flux1,
}
