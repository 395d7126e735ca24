"""Parts of pages that commands write."""

from __future__ import annotations

import sys
from pathlib import Path

from vta_hw.spec import cache
from vta_hw.spec.errors import VtaKitError

_END = "<!-- end -->\n"


class PageError(VtaKitError):
    """A page without the place that is to be filled."""


def fill(page: Path, mark: str, text: str) -> None:
    """Put `text` into `page`, in place of what is between the comments `mark` and `end`."""
    whole = page.read_text()
    begin = f"<!-- {mark} -->\n"
    head, found, rest = whole.partition(begin)
    _, ended, tail = rest.partition(_END)
    if not found or not ended:
        raise PageError(
            f"{str(page)!r} has no lines '{begin.strip()}' and, below it, '{_END.strip()}'; add "
            f"them where the text is to be"
        )
    cache.replace_file(page, f"{head}{begin}{text}{_END}{tail}".encode())


def show(text: str, page: Path | None, mark: str) -> None:
    """`fill` the page, or print the text if there is none."""
    if page is None:
        sys.stdout.write(text)
    else:
        fill(page, mark, text)
