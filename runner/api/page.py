"""The page that people use a gateway on: files as they lie in runner/web, which load nothing from anywhere else, and the
parameters that its form is made of."""

import hashlib
from pathlib import Path

from msgspec import NODEFAULT
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from pipelines.limits import MOST_REFERENCES
from pipelines.loras import Lora
from pipelines.parameter_types import parameters_of
from pipelines.parameters import ImageParameters
from pipelines.variations import Variation
from runner.api.catalog import Listing
from runner.errors import UnknownPath
from runner.gateway.app import Gateway
from runner.http.access import header
from runner.protocol.text import encode

FOLDER = Path(__file__).parent.parent / "web"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
PARAMETERS = "parameters.json"
KINDS = {bool: "boolean", int: "integer", float: "number", str: "text"}
LISTS = {Lora: "adapters", Variation: "variations", int: "integers"}
# Nothing inline, nothing from elsewhere, and no text ever parsed as markup.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def routes(gateway: Gateway) -> list[BaseRoute]:
    page = Page(gateway)
    return [
        ForReaders("/", page.index),
        Route("/page/{name}", page.file),
        Route("/library", Listing(gateway).answer),
    ]


class ForReaders(Route):
    """A path that people look at. Programs that Ollama's server is there for find its words, and some compare them."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or not is_for_reading(scope):
            return Match.NONE, {}
        return super().matches(scope)


def is_for_reading(scope: Scope) -> bool:
    """Browsers name text/html; curl and the like take anything, as does fetch, which says that it is one."""
    accept = header(scope, b"accept")
    if "text/html" in accept:
        return True
    fetched = header(scope, b"sec-fetch-mode") or header(scope, b"user-agent").lower().startswith("ollama")
    return accept == "*/*" and not fetched


def parameters_document(gallery: bool) -> bytes:
    """The parameters of a picture, for the form; how many input pictures a request may have; and whether there is a gallery."""
    parameters = [
        {
            "name": one.name,
            "type": LISTS[one.item] if one.item else KINDS[one.type],
            "label": one.label,
            "hint": one.hint,
            "group": one.group,
            "default": None if one.default is NODEFAULT else one.default,
            "least": one.least,
            "most": one.most,
        }
        for one in parameters_of(ImageParameters)
        if one.name not in ("controls", "decode", "boxes")
    ]
    return encode({"parameters": parameters, "most_images": MOST_REFERENCES, "gallery": gallery})


class File:
    def __init__(self, content: bytes, suffix: str) -> None:
        self.content = content
        self.headers = HEADERS | {
            "Content-Type": TYPES[suffix],
            "ETag": f'"{hashlib.sha256(self.content).hexdigest()[:32]}"',
        }


class Page:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Read once: names that clients send are looked up here, and never become paths.
        self._files = {
            path.name: File(path.read_bytes(), path.suffix)
            for path in FOLDER.iterdir()
            if path.suffix in TYPES
        }
        self._parameters = {has: File(parameters_document(has), ".json") for has in (False, True)}

    async def index(self, request: Request) -> Response:
        return self._answer(request, INDEX)

    async def file(self, request: Request) -> Response:
        return self._answer(request, request.path_params["name"])

    def _answer(self, request: Request, name: str) -> Response:
        has_gallery = self._gateway.gallery is not None
        file = self._parameters[has_gallery] if name == PARAMETERS else self._files.get(name)
        if file is None:
            raise UnknownPath(f"{request.url.path[:200]} does not exist; the page is at /")
        if request.headers.get("if-none-match") == file.headers["ETag"]:
            return Response(status_code=304, headers=file.headers)
        return Response(file.content, headers=file.headers)
