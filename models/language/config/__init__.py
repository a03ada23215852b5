"""Translates config.json, as transformers writes it today, into what mlx-lm expects.

    prepare.py      the whole: config.json -> the configuration that mlx-lm gets
    standard.py     config.json as transformers reads it, with its defaults
    fields.py       fields that mlx-lm has under another name, one entry per model type
    layers.py       the types of layers, as mlx-lm's architectures expect them
    rope.py         rotary embeddings: every layout and type of `rope_parameters`
    frequencies.py  the frequencies of each type of rotary embedding
    support.py      what cannot be translated, and why; checked before anything is loaded

transformers is the reference for the meaning of a configuration. Importing this package imports neither MLX nor
transformers.
"""
