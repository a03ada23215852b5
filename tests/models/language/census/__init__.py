"""The census: every language model type that both mlx-lm and transformers have, computed by both and compared.

recipes.py        what a tiny checkpoint of each type looks like, and which types cannot be compared
checkpoints.py    the checkpoint: transformers' own class with random weights, written by save_pretrained
outcome.py        what Diptych makes of it: verified, refused, or different
table.py          docs/verified-models.md, written from the outcomes
test_saved_by_mlx_lm.py  files that mlx-lm has written, quantized ones too
test_census.py    holds each type to its line of the table
"""
