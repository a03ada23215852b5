"""Mixtures of experts: routing, and stored experts, separate or fused, as mlx-lm's networks expect them."""

import re

import mlx.core as mx

Weights = dict[str, mx.array]


def route(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The indices of the `k` most likely experts of each token, and their probabilities among all experts."""
    shares = mx.softmax(logits, axis=-1, precise=True)
    chosen = mx.argpartition(-shares, kth=k - 1, axis=-1)[..., :k]
    return chosen, mx.take_along_axis(shares, chosen, axis=-1)


def stack_experts(weights: Weights, stored: str, own: str) -> Weights:
    """Stack `….{stored}.N.gate_proj.weight` and so on of all experts N into one `….{own}.gate_proj.weight`."""
    pattern = re.compile(rf"(.*){re.escape(stored)}\.(\d+)\.(.+)")
    stacked: Weights = {}
    separate: dict[str, dict[int, mx.array]] = {}
    for name, value in weights.items():
        match = pattern.fullmatch(name)
        if match is None:
            stacked[name] = value
        else:
            path, number, leaf = match.groups()
            separate.setdefault(f"{path}{own}.{leaf}", {})[int(number)] = value
    return stacked | {name: mx.stack([each[n] for n in sorted(each)]) for name, each in separate.items()}


def split_experts(weights: Weights, stored: str, own: str, transposed: bool = False) -> Weights:
    """Split `….{stored}.gate_up_proj` and rename `….{stored}.down_proj` to weights of `….{own}`; keep the rest.

    `transposed`: the inputs are stored before the outputs, as in a few model types.
    """
    split: Weights = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        if not path.endswith(stored) or kind not in ("gate_up_proj", "down_proj"):
            split[name] = value
            continue
        target = path.removesuffix(stored) + own
        matrices = value.swapaxes(-1, -2) if transposed else value
        if kind == "down_proj":
            split[f"{target}.down_proj.weight"] = matrices
        else:
            gate, up = mx.split(matrices, 2, axis=-2)
            split[f"{target}.gate_proj.weight"], split[f"{target}.up_proj.weight"] = gate, up
    return split
