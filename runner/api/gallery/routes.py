"""The routes of the gallery."""

import time
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from runner.api.gallery.archive import archive
from runner.api.gallery.job import JobState
from runner.api.gallery.jobs import JobChange, JobList, Jobs
from runner.errors import NotStored
from runner.gallery.files import media_type
from runner.gallery.gallery import Gallery
from runner.gallery.picture import Found, Picture, Query
from runner.gateway.app import Gateway
from runner.gateway.proxy import RoutingFields
from runner.gateway.responses import Stream
from runner.http.access import owner_of
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.operation import NDJSON, operation
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import Failed, line, parse, parse_body, read_json

# Nothing but a picture, whatever is in the file; only for this server's own pages.
FILE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=86400, immutable",
}
MOST_IN_ARCHIVE = 5000
PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")


class ListQuery(Struct, frozen=True):
    """`search`: words of the prompt; `before`: the id of the last picture that is known already."""

    search: Annotated[str, Meta(max_length=1000)] = ""
    favourites: bool = False
    before: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 60

    @property
    def query(self) -> Query:
        return Query(self.search, self.favourites, self.before)


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """A deleted picture can be restored for ten minutes."""

    favourite: bool | None = None
    deleted: bool | None = None


class Removed(Struct, frozen=True):
    removed: bool = True


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = GalleryApi(gateway)
    one = "/gallery/{id}"
    return [
        Route("/gallery", api.find),
        Route("/gallery", api.clear, methods=["DELETE"]),
        Route("/gallery/zip", api.zip),
        Route("/gallery/jobs", api.jobs),
        Route("/gallery/jobs", api.start, methods=["POST"]),
        Route("/gallery/jobs/events", api.events),
        Route("/gallery/jobs/{id}", api.stop, methods=["DELETE"]),
        Route("/gallery/inputs/{name}", api.input),
        Route(one, api.get),
        Route(one, api.change, methods=["POST"]),
        Route(one, api.remove, methods=["DELETE"]),
        Route(f"{one}/picture", api.picture),
        Route(f"{one}/thumbnail", api.thumbnail),
    ]


class GalleryApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._jobs = Jobs(gateway)

    @operation("List the gallery's pictures, newest first", query=ListQuery, answer=Found)
    async def find(self, request: Request) -> Response:
        query: ListQuery = parse(ListQuery, dict(request.query_params), strict=False)
        return JsonResponse(await self._needed().find(self._owner(request), query.query, query.limit))

    @operation("Get a picture's recipe", answer=Picture)
    async def get(self, request: Request) -> Response:
        return JsonResponse(await self._picture(request))

    @operation("Mark a picture as a favourite, delete it, or restore it", body=Change, answer=Picture)
    async def change(self, request: Request) -> Response:
        change = parse_body(Change, await read_body(request))
        id = request.path_params["id"]
        picture = await self._needed().change(self._owner(request), id, change.favourite, change.deleted)
        if picture is None:
            raise _missing(id)
        return JsonResponse(picture)

    @operation("Delete a picture for good", answer=Removed)
    async def remove(self, request: Request) -> Response:
        id = request.path_params["id"]
        if not await self._needed().remove(self._owner(request), id):
            raise _missing(id)
        return JsonResponse(Removed())

    @operation("Delete all pictures for good", answer=Removed)
    async def clear(self, request: Request) -> Response:
        await self._needed().clear(self._owner(request))
        return JsonResponse(Removed())

    @operation("Get a picture", plain=PICTURE_TYPES)
    async def picture(self, request: Request) -> Response:
        picture = await self._picture(request)
        path = self._needed().files.path(picture.file)
        if not path.is_file():
            raise NotStored(f"the file of picture {picture.id} is gone from {path.parent}")
        return FileResponse(path, media_type=f"image/{picture.format}", headers=FILE_HEADERS)

    @operation("Get a small copy of a picture", plain=("image/webp",))
    async def thumbnail(self, request: Request) -> Response:
        id = request.path_params["id"]
        data = await self._needed().thumbnail(self._owner(request), id)
        if data is None:
            raise _missing(id)
        return Response(data, media_type="image/webp", headers=FILE_HEADERS)

    @operation("Get an input picture of a picture", plain=PICTURE_TYPES)
    async def input(self, request: Request) -> Response:
        name, gallery = request.path_params["name"], self._needed()
        path = gallery.files.path(name)
        # The name is one that the database knows before it is looked for on the disk.
        if not await gallery.has_input(self._owner(request), name) or not path.is_file():
            raise NotStored(f"there is no input picture {name[:64]!r}")
        return FileResponse(path, media_type=media_type(path), headers=FILE_HEADERS)

    @operation(
        "Download the pictures that match as a zip file",
        query=ListQuery,
        plain=("application/zip",),
        missing="No pictures match.",
    )
    async def zip(self, request: Request) -> Response:
        query: ListQuery = parse(ListQuery, dict(request.query_params), strict=False)
        gallery = self._needed()
        found = await gallery.find(self._owner(request), query.query, MOST_IN_ARCHIVE)
        if not found.pictures:
            raise NotStored("no pictures match")
        name = time.strftime("diptych-%Y%m%d-%H%M%S.zip")
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        }
        pieces = archive(gallery.files, found.pictures)
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    @operation(
        "Draw into the gallery: the drawing goes on without its client",
        body=(RoutingFields, ImageCompletionRequest),
        answer=JobState,
        status=202,
        asks=True,
    )
    async def start(self, request: Request) -> Response:
        gallery, body = self._needed(), read_json(await read_body(request, PICTURES_LIMIT))
        return JsonResponse(await self._jobs.start(gallery, self._owner(request), body), status_code=202)

    @operation("List the drawings under way, and the latest finished ones", answer=JobList)
    async def jobs(self, request: Request) -> Response:
        return JsonResponse(JobList([job.state for job in self._jobs.of(self._owner(request))]))

    @operation("Follow the drawings: all of them, then each change", pieces=[JobList, JobChange])
    async def events(self, request: Request) -> Any:
        self._needed()
        events = self._jobs.follow(self._owner(request))
        return Stream(events, NDJSON, lambda error: line(Failed(error.message)))

    @operation("Stop a drawing", answer=JobState)
    async def stop(self, request: Request) -> Response:
        return JsonResponse(self._jobs.stop(self._owner(request), request.path_params["id"]))

    def _needed(self) -> Gallery:
        if self._gateway.gallery is None:
            raise NotStored(
                "this server keeps no gallery: it was started with --no-gallery, or cannot write one"
            )
        return self._gateway.gallery

    async def _picture(self, request: Request) -> Picture:
        id = request.path_params["id"]
        picture = await self._needed().get(self._owner(request), id)
        if picture is None:
            raise _missing(id)
        return picture

    def _owner(self, request: Request) -> str:
        """Each key has a gallery of its own."""
        return owner_of(request.scope, self._gateway.settings.keys)


def _missing(id: str) -> NotStored:
    return NotStored(f"there is no picture {id[:64]!r} in the gallery")
