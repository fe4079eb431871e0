"""The text of a STAR file, a piece at a time."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from vitrea.formats.streams import display_name, is_stream, read_bytes
from vitrea.records.errors import InputError

# Bytes read, and characters split into words, at a time: bounds the memory that short-lived words take.
PIECE = 1 << 18


@dataclass(frozen=True)
class Mark:
    """A place in the text to which one can go back."""

    piece: str
    position: int
    line_start: int
    lines_before: int
    offset: int


class StarText:
    """Lines of a file, of which a piece is held at a time. Use as a context manager.

    Pieces end with a line. UTF-8, or Latin-1 from the first piece that is not UTF-8; lines may end in any kind of line
    break and are given without it.

    Parameters
    ----------
    path : Path
        ``-`` is standard input.

    Raises
    ------
    InputError
        If the file is missing, unreadable or binary.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(display_name(path))
        self._is_stream = is_stream(path)
        self._piece = ""
        self._position = self._line_start = self._lines_before = 0
        self._encoding = "utf-8"
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Open the file."""
        try:
            self._file = io.BytesIO(read_bytes("-")) if self._is_stream else self.path.open("rb")
            head = self._file.read(1 << 16)
        except FileNotFoundError:
            raise InputError(f"{self.path} does not exist; check its name") from None
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error
        if b"\0" in head:
            self._file.close()
            raise InputError(f"{self.path} is not a STAR file: it holds binary data")
        self._file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def next_line(self) -> str | None:
        """Return the next line; None at the end."""
        if not self._at_text():
            return None
        self._line_start = self._position
        end = self._piece.find("\n", self._position)
        end = len(self._piece) if end < 0 else end
        line = self._piece[self._position : end]
        self._position = end + 1
        return line

    def step_back(self) -> None:
        """Go back to the beginning of the line last returned."""
        self._position = self._line_start

    def line_number(self) -> int:
        """Return the number of the line last returned, or of the last one skipped."""
        return self._lines_before + self._piece.count("\n", 0, max(self._position - 1, 0)) + (self._position > 0)

    def rest_of_piece(self) -> str:
        """Return whole lines from the present position on, without going past them; empty at the end."""
        return self._piece[self._position :] if self._at_text() else ""

    def skip(self, characters: int) -> None:
        """Go past characters of the present piece."""
        self._position += characters

    def mark(self) -> Mark:
        """Return the present place."""
        assert self._file is not None, "use StarText in a with statement"
        return Mark(self._piece, self._position, self._line_start, self._lines_before, self._file.tell())

    def go_back(self, mark: Mark) -> None:
        """Go back to a place."""
        assert self._file is not None, "use StarText in a with statement"
        self._piece, self._position, self._line_start = mark.piece, mark.position, mark.line_start
        self._lines_before = mark.lines_before
        self._file.seek(mark.offset)

    def _at_text(self) -> bool:
        """Read on where the piece is used up; tell whether there is more text."""
        if self._position < len(self._piece):
            return True
        content = self._read_lines()
        if not content:
            return False
        self._lines_before += self._piece.count("\n")
        try:
            text = content.decode(self._encoding)
        except UnicodeDecodeError:
            self._encoding = "latin-1"
            text = content.decode(self._encoding)
        self._piece = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        self._position = self._line_start = 0
        return True

    def _read_lines(self) -> bytes:
        """Read about a piece, to the end of a line."""
        assert self._file is not None, "use StarText in a with statement"
        try:
            content = self._file.read(PIECE)
            if content and not content.endswith(b"\n"):
                content += self._file.readline(PIECE if b"\r" in content else -1)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error
        cut = content.rfind(b"\r") + 1
        if content.endswith(b"\n") or len(content) < PIECE or cut in (0, len(content)):
            return content
        # Lines that end in carriage returns alone: the last one is not whole.
        self._file.seek(cut - len(content), 1)
        return content[:cut]
