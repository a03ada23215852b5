"""GGUF files: their header, their quantized blocks, and their tensors as MLX stores them.

header.py   metadata and the table of tensors, checked against the size of the file; no MLX
types.py    the types of tensors: bytes per block, and the layout that each becomes; no MLX
groups.py   codes, scales and offsets, and what the readers of blocks share
blocks.py   blocks to groups, in numpy; those of a codebook in codebook_blocks.py, the codebooks in codebooks.py
pack.py     codes, scales and offsets to the arrays of MLX's affine quantization
shard.py    one file's tensors under a checkpoint's names
tensors.py  reads the tensors of a shard
"""
