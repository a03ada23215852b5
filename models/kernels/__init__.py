"""Kernels of our own: how they are checked against plain operations before they are used, and which there are."""
