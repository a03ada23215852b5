"""Autoencoders: pictures to latents and back, a strip at a time."""
