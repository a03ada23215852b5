"""The order in which waiting work begins. Plain data: no MLX."""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

# How many may begin before the one that has waited longest, whatever its priority.
MOST_OVERTAKING = 8


class WaitingQueue(Generic[T]):
    """Lower priorities come first, and of one priority the first that came. Nothing waits for ever: after MOST_OVERTAKING others
    the one that has waited longest begins. The order depends on the calls alone, so it is the same in all processes that make
    the same calls."""

    def __init__(self, priority: Callable[[T], int]) -> None:
        self._priority = priority
        self._first: deque[T] = deque()
        self._sorted: list[tuple[int, int, T]] = []  # priority and arrival
        self._arrivals = count()
        self._overtaking = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._sorted)

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        yield from (item for _, _, item in self._sorted)

    def add(self, item: T) -> None:
        insort(self._sorted, (self._priority(item), next(self._arrivals), item))

    def add_first(self, item: T) -> None:
        """Before all others: it had begun already."""
        self._first.appendleft(item)

    def peek(self) -> T:
        """The next one, which stays."""
        return self._first[0] if self._first else self._sorted[self._next()][2]

    def pop(self) -> T:
        if self._first:
            return self._first.popleft()
        place = self._next()
        self._overtaking = 0 if place == self._oldest() else self._overtaking + 1
        return self._sorted.pop(place)[2]

    def remove(self, item: T) -> None:
        if item in self._first:
            self._first.remove(item)
        else:
            del self._sorted[next(place for place, entry in enumerate(self._sorted) if entry[2] is item)]

    def clear(self) -> None:
        self._first.clear()
        self._sorted.clear()
        self._overtaking = 0

    def _next(self) -> int:
        return self._oldest() if self._sorted and self._overtaking >= MOST_OVERTAKING else 0

    def _oldest(self) -> int:
        return min(range(len(self._sorted)), key=lambda place: self._sorted[place][1])
