"""Experts as transformers stores them, each apart or all of a layer in one, as mlx-lm's networks have them."""

import re

import mlx.core as mx

Weights = dict[str, mx.array]


def stack_experts(weights: Weights, stored: str, own: str) -> Weights:
    """`….{stored}.N.gate_proj.weight` and so on, for each expert N, as one `….{own}.gate_proj.weight`."""
    pattern = re.compile(rf"(.*){re.escape(stored)}\.(\d+)\.(.+)")
    stacked: Weights = {}
    apart: dict[str, dict[int, mx.array]] = {}
    for name, value in weights.items():
        match = pattern.fullmatch(name)
        if match is None:
            stacked[name] = value
        else:
            path, number, leaf = match.groups()
            apart.setdefault(f"{path}{own}.{leaf}", {})[int(number)] = value
    return stacked | {name: mx.stack([each[n] for n in sorted(each)]) for name, each in apart.items()}


def split_experts(weights: Weights, stored: str, own: str, transposed: bool = False) -> Weights:
    """`….{stored}.gate_up_proj` and `….{stored}.down_proj` as weights of `….{own}`; the rest as it is.

    `transposed`: stored with the inputs before the outputs, as the few types do that multiply from the right.
    """
    split: Weights = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        if not path.endswith(stored) or kind not in ("gate_up_proj", "down_proj"):
            split[name] = value
            continue
        place = path.removesuffix(stored) + own
        matrices = value.swapaxes(-1, -2) if transposed else value
        if kind == "down_proj":
            split[f"{place}.down_proj.weight"] = matrices
        else:
            gate, up = mx.split(matrices, 2, axis=-2)
            split[f"{place}.gate_proj.weight"], split[f"{place}.up_proj.weight"] = gate, up
    return split
