"""The tokenizer in a GGUF's metadata, as the files of a checkpoint: tokenizer.json, tokenizer_config.json.

vocabulary.py  tokens, their types and roles; tokenizer_config.json
splitting.py   how the text is split before it is encoded, by the names that GGUF has for it
build.py       tokenizer.json
"""
