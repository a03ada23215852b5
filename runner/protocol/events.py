"""A completion as types: its requests, and its events. Lines on the wire carry no tag: an event is recognised by its
fields."""

import msgspec
from msgspec import Struct

from runner.errors import RunnerFailed
from runner.protocol.image import ImageChunk, ImageCompletionRequest, ImageDone, ImageStarted, ImageStep
from runner.protocol.text import TextChunk, TextDone, TextRequest

CompletionRequest = TextRequest | ImageCompletionRequest
TextEvent = TextChunk | TextDone
ImageEvent = ImageStarted | ImageStep | ImageChunk | ImageDone
Event = TextEvent | ImageEvent

_UNSEEN = msgspec.Raw()


class _Fields(Struct, frozen=True):
    """What tells events apart. Raw values are skipped, not decoded: some are megabytes."""

    done: bool = False
    error: str = ""
    token: msgspec.Raw = _UNSEEN
    step: msgspec.Raw = _UNSEEN
    image: msgspec.Raw = _UNSEEN
    seed: msgspec.Raw = _UNSEEN


_fields = msgspec.json.Decoder(_Fields)
_text_chunk = msgspec.json.Decoder(TextChunk)
_text_done = msgspec.json.Decoder(TextDone)
_image_started = msgspec.json.Decoder(ImageStarted)
_image_step = msgspec.json.Decoder(ImageStep)
_image_chunk = msgspec.json.Decoder(ImageChunk)
_image_done = msgspec.json.Decoder(ImageDone)


def decode_event(line: bytes) -> Event:
    """The event of a line. RunnerFailed with the error that the line reports, or because it is not an event."""
    try:
        return _text_chunk.decode(line)  # most events by far
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_other(line)


def _decode_other(line: bytes) -> Event:
    try:
        fields = _fields.decode(line)
        if fields.error:
            raise RunnerFailed(fields.error)
        if fields.token is not _UNSEEN:
            return _text_chunk.decode(line)
        if fields.done:
            return (_text_done if fields.seed is _UNSEEN else _image_done).decode(line)
        if fields.step is not _UNSEEN:
            return _image_step.decode(line)
        return (_image_started if fields.image is _UNSEEN else _image_chunk).decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunnerFailed(f"the runner sent a line that is not an event ({error}): {line[:80]!r}") from None
