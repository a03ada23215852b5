"""Pictures of a chat: where its messages have them, what the model's processor makes of each, and what is read for it. No MLX."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from runner.engine.text.chat_prompts import ContentForm
from runner.errors import BadRequest, NotEnoughMemory
from runner.inspect.sight import READS_TEXT
from runner.protocol.text import Detail, Message, TextRequest, content_parts

if TYPE_CHECKING:
    from models.language.pictures.prompt import PromptPictures
    from models.vision.interface import SeenPicture, VisionModel

# Of a picture that is sent with `detail: low`: the longer side.
LOW_SIDE = 512

# A picture as it was sent: base64, and how closely it is to be looked at.
Picture = tuple[str, Detail]
Looked = Mapping[Picture, "SeenPicture"]
NO_PICTURES: Looked = {}


class Sight:
    """Of a model that sees pictures, or of one that does not."""

    def __init__(
        self,
        tokenizer: Any = None,
        vision: "VisionModel | None" = None,
        why_not: str = READS_TEXT,
        check_room: "Callable[[SeenPicture], None]" = lambda seen: None,
    ) -> None:
        """`why_not`: why requests may not have pictures; empty if they may. `check_room`: raises for one that the tower has no
        room to look at."""
        self._tokenizer = tokenizer
        self._vision = vision
        self._why_not = why_not
        self._check_room = check_room

    @property
    def sees(self) -> bool:
        return self._vision is not None and not self._why_not

    @cached_property
    def form(self) -> ContentForm | None:
        """How the chat template takes pictures; None if the model reads only text."""
        return None if self._vision is None else ContentForm.of(self._tokenizer, self._vision.marker)

    def looks(self, request: TextRequest) -> "dict[Picture, Callable[[], SeenPicture]]":
        """The pictures of a request, with what decodes and prepares each of them, which takes up to seconds."""
        places = _places(request.messages or [])
        if places and not self.sees:
            raise BadRequest(f"{next(iter(places.values()))}: {self._why_not}")
        return {
            picture: partial(look, self._vision, picture, place, self._check_room)
            for picture, place in places.items()
            if self._vision is not None
        }

    def expand(self, text: str, seen: "Sequence[SeenPicture]") -> str:
        """What the chat template has written, with a placeholder for each row of a picture."""
        if not seen or self._vision is None:
            return text
        try:
            return self._vision.expand(text, seen)
        except ValueError as error:
            raise BadRequest(f"messages: {error}") from None

    def without_rows(self, prompt: list[int]) -> list[int]:
        """The tokens of a prompt but those that stand for rows of pictures, which the network may not have."""
        return [token for token in prompt if self._vision is None or token != self._vision.placeholder]

    def with_pictures(
        self, prompt: list[int], seen: "Sequence[SeenPicture]"
    ) -> "tuple[list[int], PromptPictures | None]":
        """The prompt as the engine reads it."""
        if not seen or self._vision is None:
            return prompt, None
        from models.language.pictures.prompt import MisplacedPictures, with_pictures  # imports NumPy

        try:
            return with_pictures(prompt, seen, self._vision)
        except MisplacedPictures as error:
            raise BadRequest(f"messages: {error}") from None


def seen_in(request: TextRequest, looked: Looked) -> "list[SeenPicture]":
    """The pictures of a request in their order."""
    if not looked:
        return []
    return [looked[picture] for message in request.messages or [] for picture in _pictures(message)]


def look(
    vision: "VisionModel", picture: Picture, place: str, check_room: "Callable[[SeenPicture], None]"
) -> "SeenPicture":
    """Decode a picture and prepare it as the model's processor does."""
    from PIL import Image  # late, as NumPy: only pictures need them

    from pipelines.images import PictureError
    from pipelines.picture_files import PictureFile, from_base64

    data, detail = picture
    try:
        file = PictureFile(from_base64(data))
        size = _at_most(file.size, LOW_SIDE) if detail == "low" else None
        seen = vision.look(Image.fromarray(file.pixels(size)))
        check_room(seen)
        return seen
    except (PictureError, ValueError) as error:
        raise BadRequest(f"{place}: {error}") from None
    except NotEnoughMemory as error:
        raise NotEnoughMemory(f"{place}: {error.message}") from None


def _pictures(message: Message) -> list[Picture]:
    places = [part for part in content_parts(message) if part.type == "image"]
    return [(image, place.detail) for image, place in zip(message.images or [], places, strict=True)]


def _places(messages: Sequence[Message]) -> dict[Picture, str]:
    """The pictures of a chat, each with the place of its first."""
    places: dict[Picture, str] = {}
    for at, message in enumerate(messages):
        for index, picture in enumerate(_pictures(message)):
            places.setdefault(picture, f"messages[{at}].images[{index}]")
    return places


def _at_most(size: tuple[int, int], side: int) -> tuple[int, int]:
    longest = max(size)
    if longest <= side:
        return size
    width, height = (max(round(length * side / longest), 1) for length in size)
    return width, height
