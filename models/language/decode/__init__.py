"""Decoding one token per row: by a few kernels of our own on NVIDIA cards, by mlx-lm's network elsewhere."""
