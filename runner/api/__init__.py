"""Other people's APIs over the gateway: a file or a few each, that translate and do no more. No MLX."""
