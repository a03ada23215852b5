"""Language models in GGUF: what a header says, as config.json and as the names of mlx-lm's networks.

    architectures.py  the architectures that run, and the differences between them
    config.py         metadata -> config.json
    names.py          tensors -> the network's weights, and what is undone to them
    model.py          the files of one model together
    projector.py      what a model sees with, beside its text network or in a file of its own
    towers.py         the kinds of projectors that run, and how they differ
    ollama.py         the names in files that Ollama has converted
    adapter.py        the header of a LoRA adapter; lora_tensors.py reads its matrices

Except for lora_tensors.py, imports neither MLX nor transformers.
"""
