"""Networks that read a text in both directions: vectors and relevance scores.

    architectures.py  what config.json says without loading anything
    attention.py      attention in both directions, with padding and windows
    bert.py           BERT, RoBERTa, XLM-RoBERTa
    nomic_bert.py     NomicBERT
    modernbert.py     ModernBERT
    load.py           a checkpoint's files -> network, tokenizer, limits
    embedder.py       texts -> vectors

Importing this package does not import MLX; most of its modules do.
"""
