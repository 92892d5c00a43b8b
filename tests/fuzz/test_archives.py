"""Whatever an archive holds, it is unpacked below its folder or refused by its name, and nothing is left behind."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from fuzz.hostile import answered, cases, damaged
from hypothesis import given
from hypothesis import strategies as st

from det_distill.datasets.fetch import unpacked

MEMBERS = [
    "a/b.txt",
    "c.txt",
    "../out",
    "/out",
    "a/../../out",
    "a\\..\\..\\out",
    "C:/out",
    "x" * 300,
    "a/b.txt/c",
    "\x1b",
]


def packed(kind: str, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            for name in names:
                file.writestr(zipfile.ZipInfo(name), b"some text")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 9
                tar.addfile(info, io.BytesIO(b"some text"))
    return buffer.getvalue()


WHOLE = {kind: packed(kind, MEMBERS[:2]) for kind in ("zip", "tar")}


@pytest.mark.filterwarnings("ignore")
@cases(5)
@given(kind=st.sampled_from(["zip", "tar"]), data=st.data())
def test_an_archive_is_unpacked_below_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("archives")
    names = st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=3, unique=True).map(
        lambda names: packed(kind, names)
    )
    (place / f"e.{kind}").write_bytes(data.draw(damaged(WHOLE[kind]) | names))
    with answered(f"e.{kind}"), unpacked([place / f"e.{kind}"], place / "set") as folder:
        assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*"))
        assert {path.name for path in place.iterdir()} == {"set", f"e.{kind}"}
    assert {str(path.relative_to(place)) for path in place.rglob("*")} == {"set", f"e.{kind}"}
    assert not Path("/out").exists()
