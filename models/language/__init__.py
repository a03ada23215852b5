"""The adapter to mlx-lm: everything that touches it lives in this package. Importing it brings no MLX."""
