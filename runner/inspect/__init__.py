"""What a model's files say before anything is loaded: mode, capabilities, memory. No MLX."""
