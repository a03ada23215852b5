"""Kernels of our own: how they are checked against plain operations before they are used, and which there are."""

# The environment variable by which MLX is told where to keep compiled kernels; those of our own go there too.
CACHE_VARIABLE = "MLX_PTX_CACHE_DIR"
