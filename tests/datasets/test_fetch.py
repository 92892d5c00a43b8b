"""Downloads go on where they stopped and are believed only by checksum; archives that reach outside are refused."""

import io
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from det_distill.datasets.fetch import Archive, fetch, unpacked

CONTENT = bytes(range(256)) * 12000  # 3 MB, three chunks
SIZE = len(CONTENT)
OUTSIDE = ("../out.txt", "a/../../out.txt", "/tmp-out.txt", "..\\out.txt", "C:/out.txt", "a/..")


def ranges(server) -> list[str | None]:
    return [wanted for _, wanted, _ in server.asked]


def sent(server) -> int:
    return sum(count for *_, count in server.asked)


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.cuts = [1_000_000, 500_000]
    path = fetch(archive, tmp_path, pause=0)
    assert path == tmp_path / "a.zip"
    assert path.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1500000-"]
    assert sent(server) == SIZE
    assert os.listdir(tmp_path) == ["a.zip"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.cuts = [10, 20]
    message = rf"{re.escape(archive.address)}.*expected {SIZE} bytes, 30 came in 2 of 2 tries.*{tmp_path / 'a.zip'}"
    with pytest.raises(ConnectionError, match=message):
        fetch(archive, tmp_path, tries=2, pause=0)
    assert os.listdir(tmp_path) == ["a.zip.part"]
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=30-"
    assert sent(server) == SIZE


def test_a_whole_part_that_only_lacks_its_name_is_not_asked_for_again(server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(server.offer("a.zip", CONTENT), tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_starts_anew(server, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.ranges, server.cuts = False, [1_000_000]
    assert fetch(archive, tmp_path, pause=0).read_bytes() == CONTENT
    assert sent(server) == SIZE + 1_000_000


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_wrong_bytes_are_refused_and_gone(server, tmp_path: Path, kind: str) -> None:
    archive = server.offer("a.zip", CONTENT, kind)
    server.offer("a.zip", CONTENT[:-1] + b"!", kind)
    with pytest.raises(ValueError, match=rf"found {kind} [0-9a-f]+, expected {SIZE} bytes of {archive.checksum[:3]}"):
        fetch(archive, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_longer_file_is_refused_and_gone(server, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.offer("a.zip", CONTENT + b"!")
    with pytest.raises(ValueError, match=f"found {SIZE + 1} bytes, expected {SIZE} bytes"):
        fetch(archive, tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_verified_and_not_fetched(server, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    (tmp_path / "a.zip").write_bytes(CONTENT)
    assert fetch(archive, tmp_path) == tmp_path / "a.zip"
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"found 4 bytes.*if you put it there, move it away"):
        fetch(archive, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_refusals_are_retried_a_few_times_where_that_may_help(server, tmp_path: Path, status, requests) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.refusals = [status] * 9
    with pytest.raises(ConnectionError, match=f"{status}.*0 came in {requests} of 3 tries"):
        fetch(archive, tmp_path, tries=3, pause=0)
    assert len(server.asked) == requests


def test_nobody_at_the_address_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9/a.zip: .*or put the file at"):
        fetch(Archive("http://127.0.0.1:9/a.zip", 5, "md5:0"), tmp_path, tries=2, pause=0)


def zipped(path: Path, *members: tuple[str, bytes], link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.filename = name  # ZipInfo tidies separators
            info.external_attr = (0o120777 if link else 0o100644) << 16
            file.writestr(info, content)
    return path


def tarred(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            info.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
            file.addfile(info, io.BytesIO(content))
    return path


def all_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_members_lie_in_a_hidden_folder_that_ends_with_the_block(tmp_path: Path, pack) -> None:
    archive = pack(tmp_path / f"a.{pack.__name__[:3]}", ("a/b.txt", b"one"), ("c.txt", b"two"))
    with unpacked([archive], tmp_path / "set") as folder:
        assert {name: (folder / name).read_bytes() for name in ("a/b.txt", "c.txt")} == {
            "a/b.txt": b"one",
            "c.txt": b"two",
        }
        assert folder.parent == tmp_path / "set"
        assert folder.name.startswith(".")
    assert all_below(tmp_path) == {"set", archive.name}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_outside_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack, name: str
) -> None:
    archive = pack(tmp_path / f"a.{pack.__name__[:3]}", ("fine.txt", b"fine"), (name, b"bad"))
    for opened in (zipfile.ZipFile, tarfile.TarFile):
        monkeypatch.setattr(opened, "extractall", lambda *_: pytest.fail("unpacked before all names were looked at"))
    refused = pytest.raises(ValueError, match=r"is refused: its member .* leads out of the folder")
    with refused, unpacked([archive], tmp_path / "deep/set"):
        pass
    assert all_below(tmp_path) == {"deep", "deep/set", archive.name}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "a.tar", ("inner", b""), kind=kind)
    with pytest.raises(ValueError, match="'inner' is a link or a device"), unpacked([archive], tmp_path / "set"):
        pass
    assert all_below(tmp_path) == {"set", "a.tar"}


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("inner", b"/etc/passwd"), link=True)
    with pytest.raises(ValueError, match="'inner' is a link or a device"), unpacked([archive], tmp_path / "set"):
        pass
    assert all_below(tmp_path) == {"set", "a.zip"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, pack, share: float) -> None:
    members = [(f"images/{i}.bin", os.urandom(5000)) for i in range(9)]
    archive = pack(tmp_path / f"a.{pack.__name__[:3]}", *members)
    archive.write_bytes(archive.read_bytes()[: int(share * 9 * 5000)])
    with pytest.raises(ValueError, match="is truncated or damaged"), unpacked([archive], tmp_path / "set"):
        pass
    assert all_below(tmp_path) == {"set", archive.name}


def test_a_flipped_bit_in_a_zip_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("a.bin", b"\0" * 5000))
    content = bytearray(archive.read_bytes())
    content[2500] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="is truncated or damaged"), unpacked([archive], tmp_path / "set"):
        pass
    assert all_below(tmp_path) == {"set", "a.zip"}


def test_a_zip_whose_member_has_no_name_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("a", b"text"))
    content = archive.read_bytes()
    archive.write_bytes(content[:46].replace(b"a", b"\0", 1) + content[46:].replace(b"a", b"\0", 1))
    with pytest.raises(ValueError, match="is truncated or damaged"), unpacked([archive], tmp_path / "set"):
        pass
    assert all_below(tmp_path) == {"set", "a.zip"}


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("a.txt", b"a"))
    with pytest.raises(KeyboardInterrupt), unpacked([archive], tmp_path / "set"):
        raise KeyboardInterrupt
    assert all_below(tmp_path) == {"set", "a.zip"}
