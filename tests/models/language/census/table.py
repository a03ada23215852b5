"""docs/verified-models.md: which language models are computed as transformers computes them, written from the census.

uv run --group reference python -m tests.models.language.census.table
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.language.config.support import REFUSED as REFUSED_BY_TYPE

from .recipes import NOT_COMPARABLE, TOWERS, UNTIED, VERIFIED, ropes

FILE = Path(__file__).parents[4] / "docs" / "verified-models.md"
HEAD = """# Language models

Every model type that both mlx-lm and transformers have is held to transformers 5: a tiny checkpoint with random weights
is made by transformers' own class and `save_pretrained`, with no setting left at its default, and its logits are
compared with what Diptych computes, for a prompt read whole and for one read token by token (float32; at most 1e-4 of the
largest logit apart). Types whose layers rotate are tried with every type of `rope_parameters` that transformers has
for them.

What config.json states in transformers 5's layout or in an older one is read by transformers' own configuration class and
put into the fields that mlx-lm reads (models/language/config). Where an architecture of mlx-lm's computes something else,
the difference is mended (models/language/networks). What cannot be mended is refused by `diptych detect`, before anything
is loaded. Types that mlx-lm alone has are run as it runs them, and held to nothing.

This page is written by the test run (`python -m tests.models.language.census.table`), and a test holds it to the lists that
the census runs on.
"""


def rows() -> Iterator[str]:
    yield "\n## Verified\n"
    yield "| type | embedding and head | rotations beside the default |"
    yield "|---|---|---|"
    for name in sorted((*VERIFIED, *TOWERS)):
        shared = "apart" if name in UNTIED else "apart, and one"
        text = f" (the text alone: {TOWERS[name]})" if name in TOWERS else ""
        yield f"| `{name}`{text} | {shared} | {', '.join(ropes(name)) or '—'} |"
    yield "\n## Refused\n"
    yield "| type | why |"
    yield "|---|---|"
    for name, reason in sorted(REFUSED_BY_TYPE.items()):
        yield f"| `{name}` | {reason} |"
    yield "\n## Not comparable\n"
    yield "| type | why |"
    yield "|---|---|"
    for name, reason in sorted(NOT_COMPARABLE.items()):
        yield f"| `{name}` | {reason} |"


def page() -> str:
    return HEAD + "\n".join(rows()) + "\n"


def check(name: str, tied: bool, changes: dict[str, object]) -> str:
    from .outcome import outcome

    with tempfile.TemporaryDirectory() as folder:
        return outcome(name, Path(folder), tied, **json.loads(json.dumps(changes))).result


def main() -> None:
    """Run the census, and write the page if all of it holds."""
    for name in (*VERIFIED, *TOWERS):
        variants: list[tuple[bool, dict[str, object]]] = [(False, {})]
        variants += [] if name in UNTIED else [(True, {})]
        variants += [(False, {"rope_parameters": dict(way)}) for way in ropes(name).values()]
        for tied, changes in variants:
            result = check(name, tied, changes)
            if result != "verified":
                raise SystemExit(f"{name}, tied={tied}, {changes}: {result}")
        print(f"{name}: {len(variants)} verified", flush=True)
    FILE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
