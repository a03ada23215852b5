"""Make what the doctor compares the sample with: `MLX_ENABLE_TF32=0 python -m tests.runner.doctor.make_references`.

To be run on a processor, where float32 is computed as such.
"""

import asyncio

import msgspec
import numpy as np
from PIL import Image

from runner.doctor import samples


def main() -> None:
    written = asyncio.run(samples.write(samples.FLOAT32))
    rounded = msgspec.structs.replace(written, logprobs=[round(value, 6) for value in written.logprobs])
    samples.TEXT.write_bytes(msgspec.json.format(msgspec.json.encode(rounded), indent=1) + b"\n")
    # Without the recipe, which names the folder of this checkout.
    picture = samples.pixels(asyncio.run(samples.draw(samples.FLOAT32)))
    Image.fromarray(picture.astype(np.uint8)).save(samples.PICTURE, optimize=True)
    print(repr(written.text), samples.PICTURE.stat().st_size)


if __name__ == "__main__":
    main()
