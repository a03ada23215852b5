"""Prompts to token ids, and chat templates. No MLX."""
