"""Pictures of a page compared with committed ones, block by block.

`pytest --new-pictures TEST` writes what is drawn now in place of the committed picture; look at it
before it is committed.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

BLOCK = 16
"""Pixels: a letter of the slice views fills one. Over a larger area its change would be lost."""


def difference(one: bytes, other: bytes) -> float:
    """Largest mean difference of any block of two pictures, in grey levels: 0 to 255.

    A letter that is another one makes tens, another compression of the same picture a few.
    Infinite for pictures of different sizes.
    """
    first, second = (np.asarray(Image.open(BytesIO(p)).convert("RGB"), float) for p in (one, other))
    if first.shape != second.shape:
        return float("inf")
    apart = np.abs(first - second).max(axis=2)
    height, width = (size // BLOCK * BLOCK for size in apart.shape)
    blocks = apart[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return float(blocks.mean(axis=(1, 3)).max())


def check(picture: bytes, reference: Path, *, tolerance: float, write: bool, scratch: Path) -> None:
    """Compare a picture with the committed one; with `write`, put it there first.

    A picture that differs is left in the folder `scratch`, and named in the error.
    """
    if write:
        reference.parent.mkdir(exist_ok=True)
        Image.open(BytesIO(picture)).convert("RGB").save(reference, optimize=True)
    found = difference(picture, reference.read_bytes())
    if found > tolerance:
        drawn = scratch / reference.name
        drawn.write_bytes(picture)
        raise AssertionError(
            f"{reference.name}: a block differs by {found:.1f} grey levels, expected at most "
            f"{tolerance:g}; what was drawn: {drawn}"
        )
