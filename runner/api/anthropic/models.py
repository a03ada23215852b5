"""/v1/models for Anthropic's clients: the models that write text."""

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.datastructures import QueryParams

from runner.api.anthropic.schemas import Capabilities, Model, Models, Support, ThinkingSupport, ThinkingTypes
from runner.api.lease import names
from runner.errors import BadRequest
from runner.library import Installed, installed
from runner.library.facts import capabilities, context_length

PAGE = 20
LONGEST_PAGE = 1000


def list_models(aliases: Mapping[str, str]) -> list[Model]:
    """By every name that a client may use."""
    usable = [model for model in installed(aliases).models if "completion" in capabilities(model)]
    return [_model(model, name) for model in usable for name in names(model)]


def page_of(models: list[Model], query: QueryParams) -> Models:
    """The models that a query asks for: `limit` of them, after or before the one with an id."""
    limit = query.get("limit", str(PAGE))
    if not limit.isdecimal() or not 1 <= int(limit) <= LONGEST_PAGE:
        raise BadRequest(
            f"limit: {limit[:64]!r} is not allowed; an integer from 1 to {LONGEST_PAGE} is needed"
        )
    most, after, before = int(limit), query.get("after_id"), query.get("before_id")
    if before is not None:
        earlier = models[: _place(models, before, "before_id")]
        page, more = earlier[-most:], len(earlier) > most
    else:
        later = models if after is None else models[_place(models, after, "after_id") + 1 :]
        page, more = later[:most], len(later) > most
    return Models(page, more, page[0].id if page else None, page[-1].id if page else None)


def _place(models: list[Model], id: str, field: str) -> int:
    for index, model in enumerate(models):
        if model.id == id:
            return index
    raise BadRequest(f"{field}: {id[:200]!r} is not among the models")


def _model(model: Installed, name: str) -> Model:
    known = capabilities(model)
    thinks = Support("thinking" in known)
    context = context_length(model)
    return Model(
        id=name,
        display_name=name,
        created_at=datetime.fromtimestamp(int(model.modified), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        capabilities=Capabilities(
            image_input=Support("vision" in known),
            thinking=ThinkingSupport(thinks.supported, ThinkingTypes(enabled=thinks, adaptive=thinks)),
        ),
        max_input_tokens=context,
        max_tokens=context,
    )
