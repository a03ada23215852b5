"""Key-value caches: single, batched, quantized, and the prefix cache."""
