"""Files that appear whole or not at all: MMEngine's local file backend, made safe against kills and full disks.

Why: MMEngine writes a checkpoint by opening its final name and filling it. A run killed meanwhile leaves half a file
under a name that resuming trusts, and where one was overwritten, as after every new best result, the good one is
gone. Here the content goes beside the target and to the disk first; the name is its own only then.
"""

import os
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage

from mmengine.fileio import LocalBackend, register_backend

PART = ".part"  # what a file that is being written is called on top of its name


class WholeFiles(LocalBackend):
    """The local file system; whatever is put there appears whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, as `LocalBackend.put` does, but whole or not at all.

        Args:
            obj: The content.
            filepath: The file; its folder is made if there is none. A link stays, and what it leads to is replaced.

        Raises:
            OSError: Not written, with the system's error number; says how much room there is, and was needed. What
                had that name before is untouched.
        """
        target = Path(os.path.realpath(filepath))
        if target.exists() and not target.is_file():
            super().put(obj, target)  # a device or a pipe is written into, never replaced
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        try:
            with open(part, "wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException as error:
            with suppress(OSError):  # the error above is the one to hear
                part.unlink()
            if isinstance(error, OSError):
                raise OSError(error.errno, _failure(error, target, len(obj))) from error
            raise
        _fsync_folder(target.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text to a file, whole or not at all. See `put`."""
        self.put(obj.encode(encoding), filepath)


def _failure(error: OSError, target: Path, size: int) -> str:
    """Why a file of `size` bytes could not be written, in one line."""
    before = "what it held before is intact" if target.exists() else "nothing was left of it"
    room = f"it needs {size / 1e6:.1f} MB, {disk_usage(target.parent).free / 1e6:.1f} MB are free there"
    return f"{target} was not written: {error.strerror}; {room}; {before}"


def _fsync_folder(folder: Path) -> None:
    """Have a new name survive a power cut as well."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole_files() -> None:
    """Have everything that MMEngine writes to local files appear whole or not at all. Idempotent."""
    register_backend("local", WholeFiles, prefixes="", force=True)
