"""A browser's window with the page in it, and an ear on what it does."""

from types import TracebackType
from typing import Any, Self

import pytest


class Window:
    """`complaints` are errors of scripts and breaches of the policy, `strangers` what was asked of other hosts."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._url = url
        self._context = browser.new_context(**{"viewport": {"width": 1200, "height": 850}, **context})
        self._context.set_default_timeout(60_000)
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)
        self.page.goto(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    def _heard(self, message: Any) -> None:
        # A browser says of every refusal that it was one; the tests look at what the page makes of it.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self._url, "blob:", "data:")):
            self.strangers.append(request.url)


def check(page: Any, view: str) -> None:
    """What axe finds wrong for people who do not see, or not well, or use no mouse. The window must bypass the policy."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert not grave, (
        view,
        [(fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in grave],
    )
