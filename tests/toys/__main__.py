"""Writes a toy checkpoint: uv run python -m tests.toys out/toy --family llama --quantize 4"""

import argparse
from pathlib import Path

from tests.toys import FAMILIES, SIZES, make_text_model


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.toys",
        description="Write a random language model that anything reading the Hugging Face layout can load.",
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="where to write it; created if missing")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="qwen3", help="default: %(default)s")
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="test",
        help="test is a megabyte; nano (5 MB) and tiny (52 MB) are for measuring speed; default: %(default)s",
    )
    parser.add_argument(
        "--quantize", type=int, choices=(2, 3, 4, 5, 6, 8), metavar="BITS", help="2 to 6, or 8"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights; default: %(default)s")
    options = parser.parse_args()
    folder = make_text_model(
        options.folder, options.family, bits=options.quantize, seed=options.seed, **SIZES[options.size]
    )
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder}: a {options.family} of {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
