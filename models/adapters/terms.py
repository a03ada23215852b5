"""What an adapter adds to one layer, in one of two forms.

`LowRank`: up (down x), of two thin matrices. LoHa becomes one too: the elementwise product of two products of rank r is a
product of rank r squared. `Kronecker` (LoKr) is applied by its factors, which are never multiplied out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import mlx.core as mx

from models.adapters.adapter_file import ALPHA, BIAS, DOWN, UP


class TermError(ValueError):
    """Tensors that make up no adapter of a layer of this shape."""


@dataclass(frozen=True)
class LowRank:
    """(rank, inputs), (outputs, rank), and what is added to the outputs; all of it times `scale`."""

    down: mx.array
    up: mx.array
    bias: mx.array | None = None
    scale: float = 1.0

    @property
    def arrays(self) -> list[mx.array]:
        return [self.down, self.up, *([] if self.bias is None else [self.bias])]


@dataclass(frozen=True)
class Kronecker:
    """The Kronecker product of two matrices, (a, b) and (c, d), for a x c outputs and b x d inputs. The second may be the
    product of two, (c, rank) and (rank, d)."""

    first: mx.array
    second: tuple[mx.array, ...]
    scale: float = 1.0

    @property
    def arrays(self) -> list[mx.array]:
        return [self.first, *self.second]


Term: TypeAlias = LowRank | Kronecker


def make_term(roles: Mapping[str, mx.array], outputs: int, inputs: int, alpha: float | None) -> Term:
    """The term of a layer. A TermError says what does not fit; `alpha` applies where the group has none of its own."""
    tensors = {role: _matrix(role, array) for role, array in roles.items() if role != ALPHA}
    if ALPHA in roles:
        alpha = _scalar(roles[ALPHA])
    names = set(tensors)
    if names in ({DOWN, UP}, {DOWN, UP, BIAS}):
        return _low_rank(tensors, outputs, inputs, alpha)
    if names == {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}:
        return _hadamard(tensors, outputs, inputs, alpha)
    if names and all(name.startswith("lokr_") for name in names):
        return _kronecker(tensors, outputs, inputs, alpha)
    raise TermError(
        f"holds {', '.join(sorted(names)) or 'an alpha alone'}, which make up no LoRA, LoHa or LoKr"
    )


def _matrix(role: str, array: mx.array) -> mx.array:
    """A matrix; those of 1 x 1 convolutions are matrices too."""
    if role == BIAS:
        if array.ndim != 1:
            raise TermError(f"has a bias of {list(array.shape)}")
    elif array.ndim == 4 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    elif array.ndim != 2:
        raise TermError(f"has {role} of {list(array.shape)}; a matrix is needed")
    return array


def _scalar(alpha: mx.array) -> float:
    if alpha.size != 1:
        raise TermError(f"has an alpha of {list(alpha.shape)}; one number is needed")
    return float(cast(float, alpha.astype(mx.float32).item()))


def _need(what: str, array: mx.array, shape: tuple[int, int]) -> None:
    if array.shape != shape:
        raise TermError(f"has {what} of {list(array.shape)}; {list(shape)} is needed")


def _low_rank(tensors: Mapping[str, mx.array], outputs: int, inputs: int, alpha: float | None) -> LowRank:
    down, up, bias = tensors[DOWN], tensors[UP], tensors.get(BIAS)
    rank = down.shape[0]
    _need("down", down, (rank, inputs))
    _need("up", up, (outputs, rank))
    if bias is not None and bias.shape != (outputs,):
        raise TermError(f"has a bias of {list(bias.shape)}; {[outputs]} is needed")
    return LowRank(down, up, bias, 1.0 if alpha is None else alpha / rank)


def _hadamard(tensors: Mapping[str, mx.array], outputs: int, inputs: int, alpha: float | None) -> LowRank:
    wide = {name: tensor.astype(mx.float32) for name, tensor in tensors.items()}
    first, second = ((wide[f"hada_w{n}_a"], wide[f"hada_w{n}_b"]) for n in (1, 2))
    for number, (up, down) in enumerate((first, second), 1):
        rank = down.shape[0]
        _need(f"hada_w{number}_a", up, (outputs, rank))
        _need(f"hada_w{number}_b", down, (rank, inputs))
    scale = 1.0 if alpha is None else alpha / first[1].shape[0]
    rank = first[1].shape[0] * second[1].shape[0]
    if rank >= min(outputs, inputs):
        # More than the layer's own rank: its product is smaller.
        product = (first[0] @ first[1]) * (second[0] @ second[1])
        if outputs <= inputs:
            return LowRank(product, mx.eye(outputs), scale=scale)
        return LowRank(mx.eye(inputs), product, scale=scale)
    up = (first[0][:, :, None] * second[0][:, None, :]).reshape(outputs, rank)
    down = (first[1][:, None, :] * second[1][None, :, :]).reshape(rank, inputs)
    return LowRank(down, up, scale=scale)


def _kronecker(tensors: Mapping[str, mx.array], outputs: int, inputs: int, alpha: float | None) -> Kronecker:
    first, second = (_factor(tensors, f"lokr_w{number}") for number in (1, 2))
    rows, columns = ((first[end].shape[end], second[end].shape[end]) for end in (0, -1))
    if rows[0] * rows[1] != outputs or columns[0] * columns[1] != inputs:
        shape = f"[{rows[0]} x {rows[1]}, {columns[0]} x {columns[1]}]"
        raise TermError(f"has Kronecker factors of {shape}; {[outputs, inputs]} is needed")
    # Two whole matrices have no rank, and alpha no meaning.
    ranks = [factor[1].shape[0] for factor in (second, first) if len(factor) == 2]
    scale = alpha / ranks[0] if ranks and alpha is not None else 1.0
    whole = first[0] if len(first) == 1 else first[0].astype(mx.float32) @ first[1].astype(mx.float32)
    return Kronecker(whole, second, scale)


def _factor(tensors: Mapping[str, mx.array], name: str) -> tuple[mx.array, ...]:
    """A factor of a Kronecker product: a matrix, or two whose product it is."""
    present = {part: tensors[part] for part in (name, f"{name}_a", f"{name}_b") if part in tensors}
    if set(present) == {name}:
        return (present[name],)
    if set(present) == {f"{name}_a", f"{name}_b"}:
        up, down = present[f"{name}_a"], present[f"{name}_b"]
        if up.shape[1] != down.shape[0]:
            raise TermError(
                f"has {name}_a of {list(up.shape)} and {name}_b of {list(down.shape)}, which have no product"
            )
        return up, down
    raise TermError(f"has {', '.join(present) or 'no ' + name}; {name}, or {name}_a and {name}_b, are needed")
