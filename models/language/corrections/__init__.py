"""What is put right in mlx-lm's networks after they are made."""
