"""Text that clients keep for the server: `encrypted_content` of thoughts and compactions."""

import base64
from typing import Any

SEALED = "diptych1."


def seal(text: str) -> str:
    """Text for `encrypted_content`, which clients send back unread. It hides nothing: they are shown the same."""
    return SEALED + base64.urlsafe_b64encode(text.encode()).decode()


def unseal(sealed: Any) -> str | None:
    """None: another server made it."""
    if not isinstance(sealed, str) or not sealed.startswith(SEALED):
        return None
    try:
        return base64.urlsafe_b64decode(sealed.removeprefix(SEALED)).decode()
    except (ValueError, UnicodeDecodeError):
        return None
