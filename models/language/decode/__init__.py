"""One token a row in few kernels on NVIDIA cards, and mlx-lm's network everywhere else."""
