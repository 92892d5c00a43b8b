"""Text of annotation files and lists, or an error that says which file is none."""

from pathlib import Path

from mmengine.fileio import get


def decoded(content: bytes, path: Path | str) -> str:
    """The text of a file; a byte order mark is left out.

    Args:
        content: Of the file.
        path: The file, for messages.

    Raises:
        ValueError: It is no UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: byte {error.start} is {content[error.start]:#04x}") from None


def lines(path: str, backend_args: dict | None) -> list[str]:
    """The lines of a list that one of MMEngine's storage backends keeps, without spaces around them.

    Raises:
        ValueError: It is no UTF-8.
    """
    return [line.strip() for line in decoded(get(path, backend_args=backend_args), path).splitlines()]
