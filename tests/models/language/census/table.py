"""docs/verified-models.md: which language models give the same results as in transformers, generated from the census.

uv run --group reference python -m tests.models.language.census.table
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.language.config.support import REFUSED as REFUSED_BY_TYPE

from .ropes import ropes
from .types import NOT_COMPARABLE, TOWERS, UNTIED, VERIFIED

FILE = Path(__file__).parents[4] / "docs" / "verified-models.md"
HEAD = """# Language models

Every model type that both mlx-lm and transformers have is compared with transformers 5. transformers' own class creates a
tiny checkpoint with random weights and no setting at its default, and `save_pretrained` writes it. Its logits must match
those of Diptych, for a prompt processed at once and token by token (in float32, the difference is at most 1e-4 of the
largest logit). Types with rotary embeddings are tested with every type of `rope_parameters` that transformers has for them.

transformers' configuration class reads config.json, in the layout of transformers 5 or an older one, and its values are
translated to the fields that mlx-lm reads (models/language/config). If an architecture of mlx-lm's computes something else,
it is corrected (models/language/networks). Models that cannot be corrected are refused by `diptych detect`, before anything
is loaded. Types that only mlx-lm has run as in mlx-lm, without a comparison.

This page is generated (`uv run --group reference python -m tests.models.language.census.table`), and a test checks that it
matches the lists of the census.
"""


def rows() -> Iterator[str]:
    yield "\n## Verified\n"
    yield "| type | embedding and head | rope types other than the default |"
    yield "|---|---|---|"
    for name in sorted((*VERIFIED, *TOWERS)):
        tying = "untied" if name in UNTIED else "untied and tied"
        text = f" (text model only: {TOWERS[name]})" if name in TOWERS else ""
        yield f"| `{name}`{text} | {tying} | {', '.join(ropes(name)) or '—'} |"
    yield "\n## Refused\n"
    yield "| type | reason |"
    yield "|---|---|"
    for name, reason in sorted(REFUSED_BY_TYPE.items()):
        yield f"| `{name}` | {reason} |"
    yield "\n## Not comparable\n"
    yield "| type | reason |"
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
    """Run the census, and write the page if everything matches."""
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
