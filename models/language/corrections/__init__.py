"""Corrections of mlx-lm's networks after they have been created, for all architectures."""
