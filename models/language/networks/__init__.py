"""Architectures of mlx-lm's that need something to be right beside transformers: a weight's name, a factor, a layer.

    NETWORKS   model type -> the module here that is taken instead of mlx-lm's

Such a module has `Model` and `ModelArgs`, as mlx-lm's modules have, and is as small as the difference. Importing this
package brings no MLX.
"""

from collections.abc import Mapping

NETWORKS: Mapping[str, str] = {}
