"""GGUF files: their header, their quantized blocks, and their tensors as MLX stores them.

header.py   metadata and the table of tensors, checked against the size of the file; no MLX
types.py    the types of tensors: bytes per block, and the layout that each becomes; no MLX
blocks.py   blocks to codes, scales and offsets, in numpy
pack.py     codes, scales and offsets to the arrays of MLX's affine quantization
shard.py    one file's tensors under a checkpoint's names
tensors.py  reads the tensors of a shard
"""
