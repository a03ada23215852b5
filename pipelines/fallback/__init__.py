"""Pictures by diffusers on torch, where there is no pipeline of our own: the extra `diptych[torch]`.

`catalog` alone is imported by those who only look; everything else brings torch.
"""
