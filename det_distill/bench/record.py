"""Where what was measured is written."""

from pathlib import Path


def opened(file: str) -> Path:
    """A file to be written once everything is measured, and its folder, made at once: minutes of measuring hang on it.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("a").close()
    return path
