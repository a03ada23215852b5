"""What is asked for where nothing is, or by another method: the nearest path, the methods that it takes."""

import re
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.errors import DiptychError, UnknownPath, WrongMethod

# What is longer than this is cut, in messages too.
LONGEST = 200


class Paths:
    """Starlette's own refusals as errors of ours, which each dialect words as its clients want them."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        known = (route.path for route in routes if isinstance(route, Route))
        paths = dict.fromkeys(re.sub(r":\w+}", "}", path) for path in known)
        self._pairs = [(path, _pairs(path)) for path in paths]

    async def answer(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:LONGEST]
        if error.status_code == 404:
            raise UnknownPath(f"there is nothing at {path}; the nearest is {self._nearest(path)}")
        if error.status_code != 405:
            other = DiptychError(str(error.detail))
            other.status = error.status_code
            raise other
        allowed = ", ".join(sorted({*(error.headers or {})["Allow"].split(", "), "OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        raise WrongMethod(f"{path} does not take {request.method}; it takes {allowed}", allowed)

    def _nearest(self, path: str) -> str:
        """The one that shares most pairs of letters: scanners ask for thousands, and this takes 20 µs."""
        pairs = _pairs(path)
        return max(self._pairs, key=lambda known: len(pairs & known[1]) / len(pairs | known[1]))[0]


def _pairs(path: str) -> set[str]:
    return {path[at : at + 2] for at in range(max(1, len(path) - 1))}
