"""Language models on top of mlx-lm. No other package imports mlx-lm (benchmarks aside): some of what is used here is
not its public API.

    load.py           a checkpoint's files -> model, tokenizer, limits
    build.py          config.json and weights -> the network
    architectures.py  what config.json says without loading anything
    config/           config.json as mlx-lm expects it
    gguf/             what a GGUF's header says, as config.json and the network's names
    networks/         corrected versions of mlx-lm's networks, one module per model type
    corrections/      corrections that apply to any network: rope, sliding windows, activations, tied embeddings
    batch/            continuous batching: prefill, sampling, one sequence's state
    cache/            key-value caches and the prefix cache
    decode/           backends that compute one token per row: mlx-lm's network, or our CUDA kernels
    distributed/      tensor parallelism: sharding, and messages between ranks
    worker_loop.py    what ranks other than the first run
    embedding/        texts -> vectors
    quantize.py       a quantized copy of a model
    unpack.py         quantized layers -> float32, for processors

Importing this package does not import MLX; most of its modules do.
"""
