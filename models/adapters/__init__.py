"""Adapters (LoRA, LoHa, LoKr): their files, the layers that they change, and how they are added beside the weights."""
