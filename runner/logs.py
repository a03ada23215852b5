"""Logging to stderr, one line per record, as text or JSON."""

import json
import logging
import os
import sys
import time
from typing import Any, Literal

Format = Literal["text", "json"]
# Attributes of every record; any other came with `extra` and goes into the JSON line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# The message of a failed request, with a traceback after it; the process survived it.
REQUEST_FAILED = "a request failed"


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d} {record.levelname.lower():7} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def setup(verbose: bool = False, format: Format = "text") -> None:
    """Send Diptych's log, and the warnings of other libraries, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("diptych").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    # It writes to stderr in its own format, about prompt lengths for example, which we check ourselves.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
