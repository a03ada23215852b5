"""PyTorch: the classes of diffusers and transformers at the same dimensions, random weights, eager or compiled.

A step is one forward pass of the transformer on inputs of its pipeline's shapes, with random contents.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

Times = dict[str, Any]
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Engine:
    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if self.gpu else "cpu")
        dtype = job["dtype"] or ("bfloat16" if self.gpu else "float32")
        self.dtype = DTYPES[dtype]
        self.parts, self.text_tokens = job["parts"], job["text_tokens"] or 512
        self.transformer = self._component("diffusers", "transformer")
        self.vae = self._component("diffusers", "vae")
        self.encoders = [
            self._encoder(part) for part in ("text_encoder", "text_encoder_2") if part in self.parts
        ]
        if name == "torch-compile":
            self.transformer.forward = torch.compile(self.transformer.forward, dynamic=False)
        self.family = FAMILIES[self.parts["transformer"]["_class_name"]]
        # Of one side of a token, which is two latents in all families.
        sizes = self.vae.config.get("block_out_channels") or self.vae.config.dim_mult
        self.pixels = 2 ** len(sizes)
        self.built = {"dtype": dtype}

    def run(self, width: int, height: int, steps: int | None, n: int) -> Times:
        """The prompt and some steps; not a whole picture."""
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        inputs = self.family(self, height // self.pixels, width // self.pixels)
        began = time.perf_counter()
        encode = self._timed(self._encode)
        step = [self._timed(lambda: self.transformer(**inputs, return_dict=False)) for _ in range(steps or 4)]
        first = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated() if self.gpu else 0
        return {"encode": [encode], "step": step, "picture": [], "first": first, "peak": peak}

    def decode(self, width: int, height: int, strips: bool) -> Times:
        scale, config = self.pixels // 2, self.vae.config
        channels = config.get("latent_channels") or config.z_dim
        frames = (1,) if "z_dim" in config else ()
        latents = self.new(1, channels, *frames, height // scale, width // scale)
        before = torch.cuda.memory_allocated() if self.gpu else 0
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = self._timed(lambda: self.vae.decode(latents, return_dict=False))
        return {"seconds": [seconds], "peak": torch.cuda.max_memory_allocated() - before if self.gpu else 0}

    def new(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def _component(self, library: str, part: str) -> Any:
        module = __import__(library)
        config = {key: value for key, value in self.parts[part].items() if not key.startswith("_")}
        kind = getattr(module, self.parts[part]["_class_name"])
        return self._make(lambda: kind.from_config(config))

    def _encoder(self, part: str) -> Any:
        import transformers

        config = dict(self.parts[part])
        kind = config["model_type"]
        names = {"qwen3": "Qwen3", "clip_text_model": "CLIPText", "t5": "T5", "qwen2_5_vl": "Qwen2_5_VL"}
        classes = {"qwen3": "Qwen3Model", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
        classes["qwen2_5_vl"] = "Qwen2_5_VLModel"
        settings = getattr(transformers, f"{names[kind]}Config")(**config)
        return self._make(lambda: getattr(transformers, classes[kind])(settings))

    def _make(self, make: Callable[[], Any]) -> Any:
        """Made on the device and in its type."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                return make().eval()
        finally:
            torch.set_default_dtype(before)

    def _encode(self) -> None:
        for encoder in self.encoders:
            length = min(
                self.text_tokens, getattr(encoder.config, "max_position_embeddings", self.text_tokens)
            )
            encoder(torch.ones(1, length, dtype=torch.long, device=self.device))

    def _timed(self, call: Callable[[], Any]) -> float:
        with torch.no_grad():
            self._wait()
            began = time.perf_counter()
            call()
            self._wait()
            return time.perf_counter() - began

    def _wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def _flux2(engine: Engine, rows: int, columns: int) -> Times:
    config = engine.transformer.config
    tokens, device = rows * columns, engine.device
    return {
        "hidden_states": engine.new(1, tokens, config.in_channels),
        "encoder_hidden_states": engine.new(1, engine.text_tokens, config.joint_attention_dim),
        "timestep": torch.full((1,), 0.5, device=device, dtype=engine.dtype),
        "img_ids": _grid(rows, columns, 4, device),
        "txt_ids": torch.nn.functional.pad(torch.arange(engine.text_tokens, device=device)[:, None], (3, 0)),
        "guidance": None,
    }


def _flux1(engine: Engine, rows: int, columns: int) -> Times:
    config = engine.transformer.config
    return {
        "hidden_states": engine.new(1, rows * columns, config.in_channels),
        "encoder_hidden_states": engine.new(1, engine.text_tokens, config.joint_attention_dim),
        "pooled_projections": engine.new(1, config.pooled_projection_dim),
        "timestep": torch.full((1,), 0.5, device=engine.device, dtype=engine.dtype),
        "img_ids": _grid(rows, columns, 3, engine.device),
        "txt_ids": torch.zeros(engine.text_tokens, 3, device=engine.device),
        "guidance": engine.new(1) if config.guidance_embeds else None,
    }


def _z_image(engine: Engine, rows: int, columns: int) -> Times:
    config = engine.transformer.config
    patch = config.all_patch_size[0]
    return {
        "x": [engine.new(config.in_channels, 1, rows * patch, columns * patch)],
        "t": torch.full((1,), 0.5, device=engine.device, dtype=engine.dtype),
        "cap_feats": [engine.new(engine.text_tokens, config.cap_feat_dim)],
    }


def _qwen_image(engine: Engine, rows: int, columns: int) -> Times:
    """A step compares two prompts. Without pictures to look at."""
    config = engine.transformer.config
    return {
        "hidden_states": engine.new(2, rows * columns, config.in_channels),
        "encoder_hidden_states": engine.new(2, engine.text_tokens, config.joint_attention_dim),
        "timestep": torch.full((2,), 0.5, device=engine.device, dtype=engine.dtype),
        "img_shapes": [[(1, rows, columns)]] * 2,
    }


def _grid(rows: int, columns: int, axes: int, device: torch.device) -> torch.Tensor:
    row, column = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    ids = torch.zeros(rows * columns, axes, device=device, dtype=torch.long)
    ids[:, 1], ids[:, 2] = row.flatten(), column.flatten()
    return ids


FAMILIES: dict[str, Callable[[Engine, int, int], Times]] = {
    "Flux2Transformer2DModel": _flux2,
    "FluxTransformer2DModel": _flux1,
    "ZImageTransformer2DModel": _z_image,
    "QwenImageTransformer2DModel": _qwen_image,
}
