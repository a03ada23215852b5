"""Where models come from: everything between a model's name and its files. No MLX."""

from models.checkpoint.safetensors import TensorInfo
from runner.sources.base import ModelFiles, ModelMode, Progress
from runner.sources.find import find

__all__ = ["ModelFiles", "ModelMode", "Progress", "TensorInfo", "find"]
