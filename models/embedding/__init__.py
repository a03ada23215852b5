"""Texts to vectors, whatever network computes the hidden states: batches, prompts, pooling."""
