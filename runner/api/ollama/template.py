"""The `template` of a request, in the part of Go's language that templates of a single prompt need."""

import re
from collections.abc import Iterator, Mapping

from runner.errors import BadRequest

ACTION = re.compile(r"(\s*\{\{-\s|\{\{-?)(.*?)(\s-\}\}\s*|-?\}\})", re.DOTALL)
VARIABLE = re.compile(r"\.(System|Prompt|Response)")
CONDITION = re.compile(r"(else )?if \.(System|Prompt|Response)")


def render(template: str, values: Mapping[str, str]) -> str:
    """The prompt; it ends where the response is to be written."""
    output: list[str] = []
    # Of each open condition: whether its text is written, and whether one of its branches was.
    open_conditions: list[tuple[bool, bool]] = []
    for text, action in _pieces(template):
        if all(written for written, _ in open_conditions):
            output.append(text)
        if not action:
            continue
        if condition := CONDITION.fullmatch(action):
            _, taken = open_conditions.pop() if condition[1] and open_conditions else (False, False)
            holds = bool(values.get(condition[2])) and not taken
            open_conditions.append((holds, taken or holds))
        elif action == "else" and open_conditions:
            _, taken = open_conditions.pop()
            open_conditions.append((not taken, True))
        elif action == "end" and open_conditions:
            open_conditions.pop()
        elif variable := VARIABLE.fullmatch(action):
            if all(written for written, _ in open_conditions):
                if variable[1] == "Response":
                    break
                output.append(values.get(variable[1], ""))
        else:
            raise BadRequest(
                f"template: {{{{ {action[:80]} }}}} is not supported; supported are .System, .Prompt, .Response, if, "
                "else and end; raw takes a prompt as it is"
            )
    else:
        if open_conditions:
            raise BadRequest("template: an if has no end")
    return "".join(output)


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Text, and the action behind it; the last has none."""
    at = 0
    for match in ACTION.finditer(template):
        yield template[at : match.start()], match[2].strip()
        at = match.end()
    yield template[at:], ""
