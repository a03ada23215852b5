"""Autoencoders: pictures to latents and back, in strips where memory is short."""
