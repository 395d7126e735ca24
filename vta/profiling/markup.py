"""Elements of HTML and SVG. What is built of them is well formed, whatever text is in it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

Element = ET.Element


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """An element; texts among the children are escaped when it is written.

    An underscore at the end of an attribute's name is dropped, others become hyphens.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    made = Element(tag, {name: _text(value) for name, value in names.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + _printable(child)
        else:
            last.tail = (last.tail or "") + _printable(child)
    return made


def document(root: Element) -> bytes:
    """A whole page."""
    return b"<!DOCTYPE html>\n" + ET.tostring(root, "utf-8", method="html") + b"\n"


def _text(value: object) -> str:
    # Two digits behind the point are a hundredth of a pixel.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else _printable(value)


def _printable(value: object) -> str:
    """The text; characters that no document may hold are written as escapes."""
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
