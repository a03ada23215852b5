"""The adapter to mlx-lm: the one place that touches it, since part of what is used here is not its public interface.

    load.py       a checkpoint's files -> model, tokenizer, limits
    caches.py     key-value caches of one sequence and of a batch
    prefix.py     caches kept for prompts that begin alike
    sampling.py   logits -> tokens, each row by its own options and its own random numbers
    prefill.py    prompts -> caches, in chunks
    batch.py      sequences that join and leave a running batch between steps

Importing this package brings no MLX; its modules do.
"""
