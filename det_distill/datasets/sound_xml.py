"""XML of strangers: a document with a DOCTYPE, whose entities could expand without end or read files, is not read."""

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat


def parse(content: bytes, path: Path | str) -> ET.Element:
    """The root element, once a parser that expands nothing has seen the whole file and no DOCTYPE in it.

    Args:
        content: Of the file, in whatever encoding it says.
        path: The file, for messages.

    Raises:
        ValueError: It is no XML, or has a DOCTYPE.
    """
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
        return ET.fromstring(content)
    except (expat.ExpatError, ET.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path} is no sound XML: {error}") from None


def _refuse(*_: object) -> None:
    raise ValueError("it has a DOCTYPE, which VOC needs none of and which is not read")
