"""What a process's log says of its end: the last error in it.

Other lines speak of requests and their ids, and may be read by a client whose request was not among them.
"""

import json
import logging
import re

from runner.logs import REQUEST_FAILED

# What is kept, in bytes, for error messages.
LONGEST = 256
# Our own lines begin with a time and a level.
STAMP = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (debug|info|warning|error|critical) +")


class LastWords:
    def __init__(self) -> None:
        self.error = ""
        self._of_a_request = False

    def hear(self, line: str) -> None:
        """One more line. What has no level was written by the interpreter or by a library, and counts as an error,
        unless it continues the line before."""
        level, message = _parse(line)
        if level is not None:
            self._of_a_request = message.startswith(REQUEST_FAILED)
        elif not message.strip() or message[0].isspace():
            return
        if (level is None or level >= logging.ERROR) and not self._of_a_request:
            self.error = message.strip().encode()[:LONGEST].decode(errors="ignore")


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
