"""Whatever an image file holds, its size is read or it is a named fault; a picture too large to believe is not made."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import pytest
from fuzz.hostile import answered, cases, damaged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from det_distill.datasets.check import FAULTS, check
from det_distill.datasets.pictures import size_of
from det_distill.datasets.records import Record
from det_distill.datasets.splits import Split

KINDS = {
    "jpeg": ("RGB", "jpeg"),
    "grey": ("L", "jpeg"),
    "cmyk": ("CMYK", "jpeg"),
    "png": ("RGB", "png"),
    "alpha": ("RGBA", "png"),
    "16 bit": ("I;16", "png"),
    "palette": ("P", "gif"),
    "tiff": ("RGB", "tiff"),
    "webp": ("RGBA", "webp"),
    "bmp": ("RGB", "bmp"),
}


@cache
def picture(kind: str, frames: int = 1) -> bytes:
    """40 x 30, with EXIF that turns it where the format has any."""
    mode, name = KINDS[kind]
    image = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 20).convert(mode)
    more = dict(save_all=True, append_images=[image] * (frames - 1)) if frames > 1 else {}
    if name in ("jpeg", "webp", "png", "tiff"):
        exif = Image.Exif()
        exif[0x0112] = 1
        more["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, name, **more)
    return buffer.getvalue()


def gigantic(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares such a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


WHOLE = st.sampled_from(sorted(KINDS)).map(picture) | st.sampled_from(["palette", "webp", "tiff"]).map(
    lambda kind: picture(kind, 3)
)
SPOILT = (
    WHOLE.flatmap(damaged) | st.binary(max_size=60) | st.builds(gigantic, *2 * [st.sampled_from([1, 40, 2**31 - 1])])
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "e.jpg"


@cases(9)
@given(SPOILT)
@pytest.mark.filterwarnings("ignore")
def test_an_image_is_looked_at_or_a_named_fault(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with answered("e.jpg"):
        report = check([Split(("a",), [Record(path)])])
        assert report.images == 1
        assert sum(map(len, report.faults.values())) <= 1
        assert set(report.faults) == set(FAULTS)
    with answered("e.jpg is no sound image"):
        size_of(path)


@pytest.mark.parametrize(("kind", "frames"), [*((kind, 1) for kind in KINDS), ("palette", 3), ("webp", 3), ("tiff", 3)])
def test_every_sound_kind_is_a_clean_image_of_its_size(path: Path, kind: str, frames: int) -> None:
    path.write_bytes(picture(kind, frames))
    assert check([Split(("a",), [Record(path, size=(40, 30))])]).clean
    assert size_of(path) == (40, 30)
