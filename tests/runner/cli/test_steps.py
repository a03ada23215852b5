"""The line that says how far a picture is."""

import io

from runner.cli.steps import Steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_shows_the_step_and_the_time_left_by_the_steps_after_the_first() -> None:
    out, moments = Terminal(), iter([0.0, 50.0, 52.0, 54.0])
    steps = Steps(out, lambda: next(moments))
    steps.loading(0.42)
    for done in range(4):
        steps.step(done, 120)
    *_, loading, before, first, second, third = out.getvalue().split("\r\x1b[K")
    assert loading.endswith("42%")
    assert before.startswith("step 0 of 120")
    assert "left" not in before + first, "the first step says little about the others"
    assert second.endswith(", 3 min 56 s left")
    assert third.endswith(", 3 min 54 s left")


def test_it_says_nothing_where_nobody_watches() -> None:
    out = io.StringIO()
    steps = Steps(out)
    steps.loading(0.5)
    steps.step(1, 2)
    steps.clear()
    assert out.getvalue() == ""
