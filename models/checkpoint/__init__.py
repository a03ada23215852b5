"""Weights on disk and on the device: read, checked, quantized, written."""
