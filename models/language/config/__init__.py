"""A language model's config.json as mlx-lm expects it: what transformers writes today, put right before mlx-lm reads it.

    standard.py   config.json as transformers itself understands it, with its defaults
    rope.py       rotary embeddings: every layout and type of `rope_parameters`
    fields.py     fields that mlx-lm knows by another name, one entry a model type
    layers.py     what kind each layer is, as mlx-lm's architectures are told
    prepare.py    the whole: config.json -> the configuration that mlx-lm is given
    support.py    what cannot be put right, and why; asked before anything is loaded

transformers is the reference for what a configuration means. Importing this package brings neither MLX nor transformers.
"""
