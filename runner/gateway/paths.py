"""What is asked for where nothing is, or by another method: the nearest path, the methods that it takes."""

import difflib
import re
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.errors import DiptychError, UnknownPath, WrongMethod

# Beyond it nothing is compared: looking for what is near takes time.
LONGEST = 200


class Paths:
    """Starlette's own refusals as errors of ours, which each dialect words as its clients want them."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        known = (route.path for route in routes if isinstance(route, Route))
        self._known = [re.sub(r":\w+}", "}", path) for path in known]

    async def answer(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:LONGEST]
        if error.status_code == 404:
            near = difflib.get_close_matches(path, self._known, n=1, cutoff=0)
            raise UnknownPath(f"there is nothing at {path}; the nearest is {near[0]}")
        if error.status_code != 405:
            other = DiptychError(str(error.detail))
            other.status = error.status_code
            raise other
        allowed = ", ".join(sorted({*(error.headers or {})["Allow"].split(", "), "OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        raise WrongMethod(f"{path} does not take {request.method}; it takes {allowed}", allowed)
