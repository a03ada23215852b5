"""Logging to stderr, a line each, as text or JSON."""

import json
import logging
import os
import sys
import time
from typing import Any, Literal

Format = Literal["text", "json"]
# Attributes every record has; what else it carries was given by `extra` and belongs in the JSON line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# How a line begins that tells of a request's failure, with a traceback after it: one that the process outlived.
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
    """Send Diptych's log to stderr; other libraries' warnings too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("diptych").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    # It writes its own lines to stderr, in its own form; what it has to say of a prompt's length, we have said.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
