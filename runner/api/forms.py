"""Reads multipart/form-data, in which HTTP clients send files, from a body that has already been read. Stricter than
Starlette's parser: a form that ends within a part, or text that is not UTF-8, is an error."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runner.errors import BadRequest

MOST_PARTS = 100


@dataclass
class Form:
    """The parts by name, in order; a part with a file name is a file."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=dict)


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read_form(content_type: str, body: bytes) -> Form:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("the content type multipart/form-data has no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
                "on_end": reader.on_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not multipart/form-data: {error}") from None
    if not reader.ended:
        raise BadRequest("the body is not multipart/form-data: it ends within a part")
    return reader.form


class _Reader:
    """The parser's callbacks."""

    def __init__(self) -> None:
        self.form = Form()
        self.ended = False
        self._parts = 0
        self._name, self._value = b"", b""
        self._disposition = b""
        self._data = bytearray()

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise BadRequest(f"the form has more than {MOST_PARTS} parts")
        self._disposition = b""
        self._data = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def on_part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode()
        if not name:
            raise BadRequest("a part of the form has no name")
        if b"filename" in options:
            self.form.files.setdefault(name, []).append(bytes(self._data))
        else:
            self.form.fields.setdefault(name, []).append(self._data.decode())

    def on_end(self) -> None:
        self.ended = True
