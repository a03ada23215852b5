"""GLM 4.7 Flash: the norms of its compressed queries and keys have an epsilon of their own."""

from mlx_lm.models import glm4_moe_lite as base

ModelArgs = base.ModelArgs
EPSILON = 1e-6


class Model(base.Model):
    def __init__(self, args: base.ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            for name in ("q_a_layernorm", "kv_a_layernorm"):
                if name in layer.self_attn:
                    layer.self_attn[name].eps = EPSILON
