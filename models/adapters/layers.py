"""Adapters beside the weights: a layer's product, and what the adapters add to it.

    attach(network, [(changes, 0.8), …], beside)   # instead of those before
    attach(network, [], beside)                    # the network as it was

The weights are not touched, so adapters change from one picture to the next, and quantized layers have them as well. All
low-rank terms of a layer are one: their matrices stand side by side.
"""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from models.adapters.adapter import Change
from models.adapters.names import Target
from models.adapters.terms import LowRank

Scaled = tuple[Change, float]


class AdaptedLinear(nn.Module):
    """A layer with terms beside it. `terms` holds nothing but arrays, so that a compiled step can take them as inputs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.terms: dict[str, mx.array] = {}
        self._kroneckers: list[tuple[int, int, int]] = []  # rows, and the number of factors

    def set_terms(self, changes: Sequence[Scaled], dtype: mx.Dtype) -> None:
        """Instead of those before, in the dtype that the network computes in."""
        terms: dict[str, mx.array] = {}
        downs, ups, biases = [], [], []
        kroneckers: list[tuple[int, int, int]] = []
        for change, scale in changes:
            term, target, factor = change.term, change.target, scale * change.term.scale
            if isinstance(term, LowRank):
                downs.append(term.down)
                ups.append(_placed(target, term.up.astype(mx.float32) * factor, self.outputs))
                if term.bias is not None:
                    biases.append(_placed(target, term.bias.astype(mx.float32) * factor, self.outputs))
            else:
                for number, array in enumerate((term.first.astype(mx.float32) * factor, *term.second)):
                    terms[f"kronecker_{len(kroneckers)}_{number}"] = array
                kroneckers.append((target.start, target.stop, len(term.arrays)))
        if downs:
            terms |= {"down": mx.concatenate(downs).T, "up": mx.concatenate(ups, axis=1).T}
        if biases:
            terms["bias"] = mx.stack(biases).sum(axis=0)
        self._kroneckers = kroneckers
        self.terms.clear()
        self.terms.update({name: mx.contiguous(array.astype(dtype)) for name, array in terms.items()})

    @property
    def outputs(self) -> int:
        return int(self.layer["weight"].shape[0])

    @property
    def structure(self) -> tuple[object, ...]:
        """What a compiled step depends on beside the arrays."""
        return (tuple(self.terms), tuple(self._kroneckers))

    def _with_low_rank(self, x: mx.array) -> mx.array:
        """The thin product first: a plain layer's own product then begins with it, and reads it while it multiplies, which
        saves a pass over the outputs."""
        layer, low = self.layer, x @ self.terms["down"]
        if type(layer) is not nn.Linear:
            return mx.addmm(layer(x), low, self.terms["up"])
        added = mx.addmm(layer.bias, low, self.terms["up"]) if "bias" in layer else low @ self.terms["up"]
        return mx.addmm(added, x, layer.weight.T)

    def __call__(self, x: mx.array) -> mx.array:
        terms = self.terms
        y = self._with_low_rank(x) if "down" in terms else self.layer(x)
        if "bias" in terms:
            y = y + terms["bias"]
        for index, (start, stop, count) in enumerate(self._kroneckers):
            first, *second = (terms[f"kronecker_{index}_{number}"] for number in range(count))
            added = _kronecker(x, first, second)
            widths = [(0, 0)] * (y.ndim - 1) + [(start, y.shape[-1] - stop)]
            y = y + (added if stop - start == y.shape[-1] else mx.pad(added, widths))
        return y


def _kronecker(x: mx.array, first: mx.array, second: Sequence[mx.array]) -> mx.array:
    """x times the transposed Kronecker product of `first` and of the product of `second`."""
    x = x.reshape(*x.shape[:-1], first.shape[1], -1)
    for factor in reversed(second):
        x = x @ factor.T
    return (x.swapaxes(-1, -2) @ first.T).swapaxes(-1, -2).flatten(-2)


def _placed(target: Target, rows: mx.array, outputs: int) -> mx.array:
    """Rows of a layer, with zeros above and below."""
    widths = [(target.start, outputs - target.stop), *[(0, 0)] * (rows.ndim - 1)]
    return rows if target.outputs == outputs else mx.pad(rows, widths)


def compute_dtype(network: nn.Module) -> mx.Dtype:
    """The dtype of the norms, which are never quantized."""
    norms = (layer for layer in network.modules() if isinstance(layer, nn.RMSNorm | nn.LayerNorm))
    return next(norm.weight.dtype for norm in norms)


def attach(
    network: nn.Module,
    adapters: Sequence[tuple[Mapping[str, tuple[Change, ...]], float]],
    beside: dict[str, AdaptedLinear],
    dtype: mx.Dtype | None = None,
) -> None:
    """Put the changes of all adapters, each with its scale, beside the network's layers, in place of those before.

    `beside` keeps the AdaptedLinear of each path from one call to the next: where layers have adapters again, the arrays
    alone are other ones. `dtype`: what the network computes in, if its norms do not say so. Without changes a layer is the network's own again."""
    changes: dict[str, list[Scaled]] = {}
    for layers, scale in adapters:
        for path, each in layers.items():
            changes.setdefault(path, []).extend((change, scale) for change in each)
    dtype = dtype or compute_dtype(network)
    modules = dict(network.named_modules())
    for path in changes:
        if path not in beside:
            beside[path] = AdaptedLinear(modules[path])
    placed = [(path, layer if path in changes else layer.layer) for path, layer in beside.items()]
    network.update_modules(tree_unflatten([each for each in placed if modules[each[0]] is not each[1]]))
    for path, layer in beside.items():
        layer.set_terms(changes.get(path, ()), dtype)
    mx.eval([layer.terms for layer in beside.values()])
