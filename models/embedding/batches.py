"""Texts of any length in batches for a network, shortest first."""

from collections.abc import Iterator, Sequence

from models.layers.attention import on_cpu


def batches(lengths: Sequence[int], token_budget: int, *, equal: bool = False) -> Iterator[list[int]]:
    """The indices of texts of similar length, each batch within the budget including padding. `equal`: all of a batch have
    the same length, so that there is no padding and attention needs no mask."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        length = lengths[index]
        if batch and ((len(batch) + 1) * length > token_budget or (equal and length != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def prefers_equal_lengths() -> bool:
    """A processor gains nothing from wide batches, and padding costs it as much as text."""
    return on_cpu()
