"""Keys and values: one sequence's, a batch's, quantized, and kept for prompts that begin alike."""
