"""Tensor parallelism: one model sharded over several processes."""
