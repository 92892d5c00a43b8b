"""Fetch an archive over a line that may break, and unpack one that may lie.

Why no library: urllib and hashlib are enough, and torchvision's downloader neither resumes nor says what came.
"""

import contextlib
import hashlib
import http.client
import os
import ssl
import stat
import struct
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from det_distill.datasets.inside import LONGEST

BROKEN_LINE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, tarfile.TarError, EOFError, struct.error, NotImplementedError, UnicodeError),
    IndexError,  # a zip's member without a name
)
CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # s without a byte


@dataclass(frozen=True)
class Archive:
    """A file at an address: its size in bytes and its checksum, written "md5:..." or "sha256:..."."""

    address: str
    size: int
    checksum: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.address).name


def fetch(archive: Archive, folder: Path, tries: int = 5, pause: float = 2.0) -> Path:
    """The archive in `folder`, downloaded unless it is there; it gets its name once its checksum has been verified.

    What has come lies in NAME.part, from where the next try or the next call goes on (HTTP Range). A server that
    sends the whole file all the same starts it anew.

    Args:
        archive: What to fetch.
        folder: Where to; made if need be.
        tries: Requests at most.
        pause: Seconds before the second request, doubled before each further one.

    Returns:
        Path of the file, of the right size and checksum.

    Raises:
        ConnectionError: The server refuses, or the line broke too often.
        ValueError: The file, just come or there before, is not the one expected. One just come is removed.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    if path.exists():
        _verify(path, archive)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(archive.name, total=archive.size)
        for attempt in range(tries):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                for there in _download(archive, part):
                    bar.update(task, completed=there)
                reason = "the connection ended"
            except BROKEN_LINE as error:
                reason = str(error) or type(error).__name__
                if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code != 429:
                    break  # asking again will not help
            if _length(part) >= archive.size:
                break
    if _length(part) < archive.size:
        raise ConnectionError(
            f"{archive.address}: {reason}; expected {archive.size} bytes, {_length(part)} came in {attempt + 1} of "
            f"{tries} tries. Run this again to go on from there, or put the file at {path} by other means."
        )
    try:
        _verify(part, archive)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _download(archive: Archive, part: Path) -> Iterator[int]:
    """Appends to `part` what it lacks; yields how many bytes are there. A short answer ends it without an error."""
    start = _length(part)
    if start >= archive.size:
        return
    headers = {"User-Agent": "det_distill", **({"Range": f"bytes={start}-"} if start else {})}
    with urllib.request.urlopen(urllib.request.Request(archive.address, headers=headers), timeout=TIMEOUT) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        with part.open("ab" if resumed else "wb") as file:
            try:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    yield file.tell()
            finally:
                file.flush()
                os.fsync(file.fileno())


def _verify(path: Path, archive: Archive) -> None:
    kind, _, expected = archive.checksum.partition(":")
    size, digest = path.stat().st_size, hashlib.new(kind)
    if size == archive.size:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    if size != archive.size or digest.hexdigest() != expected:
        found = f"{kind} {digest.hexdigest()}" if size == archive.size else f"{size} bytes"
        raise ValueError(
            f"{path} is not {archive.address}: found {found}, expected {archive.size} bytes of {kind} {expected}; "
            f"if you put it there, move it away"
        )


@contextlib.contextmanager
def unpacked(archives: Sequence[Path], near: Path) -> Iterator[Path]:
    """A hidden folder in `near` with what the archives hold; it is gone, with what was not moved out, at the end.

    Raises:
        ValueError: An archive is truncated or damaged, or has a member that does not belong into the folder.
    """
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=near) as folder:
        for archive in archives:
            try:
                _unpack(archive, Path(folder))
            except DAMAGED as error:
                raise ValueError(f"{archive} is truncated or damaged: {error}; remove it and run this again") from error
            except OSError as error:  # a full disk, or a name that is a file and a folder
                raise ValueError(f"{archive} cannot be unpacked: {error}") from error
        yield Path(folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Every name is looked at before the first file is written. Data sets need no links, so all are refused."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                _admit(archive, info.filename, plain=not stat.S_ISLNK(info.external_attr >> 16))
            file.extractall(folder)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            _admit(archive, member.name, plain=member.isfile() or member.isdir())
        if hasattr(tarfile, "data_filter"):  # Python 3.10.12, 3.11.4
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)


def _admit(archive: Path, name: str, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain or path.is_absolute() or ".." in path.parts or ":" in name:
        kind = "leads out of the folder" if plain else "is a link or a device"
        raise ValueError(f"{archive} is refused: its member {name!r} {kind}")
    if any(len(part.encode(errors="replace")) > LONGEST for part in path.parts):
        raise ValueError(f"{archive} is refused: its member {name[:80]!r}... has too long a name")
