"""The census: every language model type that both mlx-lm and transformers have, computed by both and compared.

types.py          the model types: verified, text models inside others, and types that cannot be compared
recipes.py        the settings of a tiny checkpoint of each type
ropes.py          the types of rotary embeddings that each type is compared with
checkpoints.py    the checkpoint: transformers' own class with random weights, written by save_pretrained
outcome.py        what Diptych makes of it: verified, refused, or different
table.py          docs/verified-models.md, written from the outcomes
test_census.py    each type gives transformers' logits
test_in_company.py       the same in batches
test_saved_by_mlx_lm.py  the same for files that mlx-lm has written, quantized ones too
test_table.py     docs/models.md is up to date
"""
