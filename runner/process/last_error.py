"""The last error in the log of a process that ended.

Other log lines may contain details of requests, and clients with other requests see this message.
"""

import json
import logging
import re

from runner.logs import REQUEST_FAILED

# Longer errors are cut to this length.
MAX_ERROR_BYTES = 256
# Diptych's own lines begin with a time and a level.
STAMP = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (debug|info|warning|error|critical) +")


class LastError:
    def __init__(self) -> None:
        self.error = ""
        self._of_a_request = False

    def feed(self, line: str) -> None:
        """The next line. One without a level comes from the interpreter or a library, and counts as an error unless it
        continues the previous line."""
        level, message = _parse(line)
        if level is not None:
            self._of_a_request = message.startswith(REQUEST_FAILED)
        elif not message.strip() or message[0].isspace():
            return
        if (level is None or level >= logging.ERROR) and not self._of_a_request:
            self.error = message.strip().encode()[:MAX_ERROR_BYTES].decode(errors="ignore")


def _parse(line: str) -> tuple[int | None, str]:
    levels = logging.getLevelNamesMapping()
    if stamp := STAMP.match(line):
        return levels[stamp[1].upper()], line[stamp.end() :]
    if line.startswith("{"):
        try:
            record = json.loads(line)
            return levels[record["level"].upper()], str(record["message"])
        except (ValueError, KeyError, AttributeError, RecursionError):
            return None, line
    return None, line
