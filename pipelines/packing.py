"""Output pictures: pixels and a recipe to PNG, JPEG or WebP, and the recipe back from a file.

PNG is written by `png.py`, the others by Pillow.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.base import Pixels
from pipelines.images import PictureError
from pipelines.picture_files import FORMATS
from pipelines.png import png
from pipelines.recipe import Recipe, RecipeError

# Where the recipe stands: PNG text chunks, and for the others the EXIF tags that hold text of any length.
PARAMETERS, JSON = "parameters", "diptych"
EXIF_IFD, USER_COMMENT, DESCRIPTION = 0x8769, 0x9286, 0x010E
UNICODE = b"UNICODE\0"
MAX_JPEG_EXIF = 65_000  # of the 65,533 bytes that a JPEG segment holds


def pack(
    pixels: Pixels, kind: str = "png", recipe: Recipe | None = None, quality: int | None = None
) -> bytes:
    """A file of [height, width, 3] pixels. `kind` is png, jpeg or webp; `quality`, 0 to 100, is for the last two.

    A recipe that is too long for a JPEG's EXIF is left out.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}, uint8 [height, width, 3] is needed"
        )
    if kind == "png":
        return png(pixels, _texts(recipe) if recipe else {})
    if kind not in ("jpeg", "webp"):
        raise ValueError(f"format is {kind!r}, it must be png, jpeg or webp")
    exif = _exif(recipe) if recipe else b""
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    if kind == "jpeg":
        fits = exif if len(exif) <= MAX_JPEG_EXIF else b""
        picture.save(out, "JPEG", quality=95 if quality is None else quality, subsampling=0, exif=fits)
    else:
        # Method 0 takes two thirds of the time of 2, for the same error and files up to a tenth larger.
        picture.save(out, "WEBP", quality=92 if quality is None else quality, method=0, exif=exif)
    return out.getvalue()


def read_recipe(source: str | Path | bytes) -> Recipe:
    """The recipe in a file, or in the bytes of one. Reads no pixels; the content is untrusted."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(opened, formats=FORMATS) as picture:
            own, parameters = _recipe_texts(picture)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("the file is not a PNG, JPEG or WebP") from error
    # As in `picture_files`: malicious files raise all kinds of errors.
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error}") from error
    if own is not None:
        return Recipe.from_json(own)
    if parameters is not None:
        return Recipe.from_parameters(parameters)
    raise RecipeError("the picture carries no recipe")


def _texts(recipe: Recipe) -> dict[str, str]:
    return {PARAMETERS: recipe.to_parameters(), JSON: recipe.to_json()}


def _recipe_texts(picture: Image.Image) -> tuple[str | None, str | None]:
    """The recipe as JSON and as text, where there are any."""
    if picture.format == "PNG":
        texts = [picture.info.get(key) for key in (JSON, PARAMETERS)]
    else:
        exif = picture.getexif()
        comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
        description = exif.get(DESCRIPTION)
        # Cameras write descriptions too: ours begins like this.
        ours = isinstance(description, str) and description.startswith('{"prompt"')
        texts = [description if ours else None, _comment(comment)]
    own, parameters = (str(text) if isinstance(text, str) else None for text in texts)
    return own, parameters


def _exif(recipe: Recipe) -> bytes:
    exif = Image.Exif()
    exif[DESCRIPTION] = recipe.to_json()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + recipe.to_parameters().encode("utf-16-be", "replace")
    return exif.tobytes()


def _comment(comment: object) -> str | None:
    if not isinstance(comment, bytes) or not comment.startswith(UNICODE):
        return None
    text = comment[len(UNICODE) :]
    little = text[1::2].count(0) > text[::2].count(0)  # Latin letters have their zero byte second
    return text.decode("utf-16-le" if little else "utf-16-be", "replace")
