"""Pictures that diffusers draws with adapters, by load_lora_weights and set_adapters."""

import inspect
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from pipelines.base import ImageRequest
from tests.pipelines import reference
from tests.pipelines.adapter_files import FLUX, FORMATS, size

pytest.importorskip("peft")


@contextmanager
def small_converters() -> Iterator[None]:
    """diffusers' converters of FLUX.1 have the real network's sizes written in them: here the toy's."""
    from diffusers.loaders import lora_conversion_utils, lora_pipeline

    width = size(FLUX, ("x_embedder",))[0]
    sizes = {
        "3072": str(width),
        "12288": str(4 * width),
        "num_layers = 19": "num_layers = 1",
        "num_single_layers = 38": "num_single_layers = 2",
    }
    small = {}
    for name in ("_convert_kohya_flux_lora_to_diffusers", "_convert_fal_kontext_lora_to_diffusers"):
        source = inspect.getsource(getattr(lora_conversion_utils, name))
        for real, toy in sizes.items():
            source = source.replace(real, toy)
        exec(source, scope := dict(vars(lora_conversion_utils)))
        small[name] = scope[name]
    with mock.patch.multiple(lora_pipeline, **small):
        yield


def adapted_picture(
    pipeline: Any, request: ImageRequest, names: Sequence[str], scales: Sequence[float]
) -> np.ndarray:
    """Of one pipeline, which is as before afterwards."""
    adapters = [f"adapter_{index}" for index in range(len(names))]
    with small_converters(), tempfile.TemporaryDirectory() as folder:
        try:
            for name, adapter in zip(names, adapters, strict=True):
                path = FORMATS[name].write(Path(folder) / f"{adapter}.safetensors")
                pipeline.load_lora_weights(folder, weight_name=path.name, adapter_name=adapter)
            pipeline.set_adapters(adapters, list(scales))
            (picture,) = reference.pictures(pipeline, request)
        finally:
            pipeline.unload_lora_weights()
            if any("LoKr" in name for name in names) and hasattr(
                pipeline.transformer, "unfuse_qkv_projections"
            ):
                pipeline.transformer.unfuse_qkv_projections()
    return picture
