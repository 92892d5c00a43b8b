"""Image files that nobody vouches for: broken, cut short, empty, or small files that declare gigantic pictures."""

import io
import struct
from pathlib import Path

from PIL import Image

ORIENTATION = 0x0112  # EXIF: from 5 on the picture lies on its side, and MMDetection turns it
# What Pillow's decoders were seen to raise over damaged files; its own error for those it does not know is an OSError.
BROKEN = (
    *(OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError),
    *(struct.error, RuntimeError, MemoryError, Image.DecompressionBombError),
)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        ValueError: No image, or one of more pixels than Pillow opens.
    """
    try:
        with Image.open(path) as header:
            return header.size
    except BROKEN as error:
        raise ValueError(f"{path} is no sound image: {reason(error)}") from error


def decoded_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels of an image file of which every pixel can be read, as MMDetection turns it.

    Raises:
        ValueError: Some cannot; the message holds "truncated" where the file ends too early.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
            way = image.getexif().get(ORIENTATION, 1)
    except BROKEN as error:
        raise ValueError(reason(error)) from error
    return (height, width) if isinstance(way, int) and way >= 5 else (width, height)


def reason(error: BaseException) -> str:
    """One line; an error without words has its name."""
    return " ".join(str(error).split()) or type(error).__name__
