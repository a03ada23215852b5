"""Pictures by diffusers on torch, for models without a Diptych pipeline: the extra `diptych[torch]`.

Only `catalog` may be imported without torch.
"""
