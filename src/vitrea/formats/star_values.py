"""STAR words to typed columns and values, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.labels import label_types

Value = int | float | str
Column = NDArray[Any]

_INTEGER_LIMIT = 2**63
_PADDED = re.compile(r"[+-]?0\d")
NUMBER_WIDTH = 12  # of numbers in a loop, RELION's
_FLOAT_TOLERANCE = 5e-10  # relative; a reader gets back at least nine digits


def parse_column(label: str, words: Sequence[str], as_text: bool = False) -> Column:
    """Turn the words of one column into an array.

    The label's registered type decides; columns of unknown labels become int64, float64 or text, whichever holds all
    words without loss (``001`` and integers beyond 64 bits stay text).

    Parameters
    ----------
    label : str
        Name without underscore.
    words : sequence of str, length [rows]
        The words, quotes removed.
    as_text : bool
        Keep text whatever the words look like.

    Returns
    -------
    ndarray, shape [rows]
        int64, float64, or object (holding ``str``). A registered number that cannot be read as one stays text.
    """
    kind = label_types().get(label)
    if as_text or kind == "string":
        return text_column(words)
    if kind == "double":
        return _first_of(words, _floats)
    if kind is not None:
        return _first_of(words, _integers, _whole_floats, _floats)
    return _first_of(words, _exact_integers, _unpadded_floats) if words else text_column(words)


def parse_value(label: str, word: str) -> Value:
    """Turn one word into int, float or str by the rules of `parse_column`."""
    value: Value = parse_column(label, [word]).tolist()[0]
    return value


def text_column(words: Sequence[str]) -> Column:
    """Return words as an object array, shape [rows]; words that return are one object."""
    column = np.empty(len(words), dtype=object)
    once = {word: word for word in words}
    column[:] = words if len(once) == len(words) else [once[word] for word in words]
    return column


def _first_of(words: Sequence[str], *parsers: Any) -> Column:
    if any("_" in word for word in words[:1]) or "_" in "".join(words):
        return text_column(words)  # Python reads 1_000 as a number; STAR does not
    for parse in parsers:
        try:
            column: Column = parse(words)
        except (ValueError, OverflowError):
            continue
        return column
    return text_column(words)


def _floats(words: Sequence[str]) -> NDArray[np.float64]:
    return np.fromiter(map(float, words), np.float64, len(words))


def _integers(words: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(int, words), np.int64, len(words))


def _whole_floats(words: Sequence[str]) -> NDArray[np.int64]:
    """Read integers that some program wrote as ``2.000000``."""
    values = _floats(words)
    whole = values.astype(np.int64) if np.all(np.abs(values) < _INTEGER_LIMIT) else None
    if whole is None or not np.array_equal(whole, values):
        raise ValueError("not whole numbers")
    return whole


def _exact_integers(words: Sequence[str]) -> NDArray[np.int64]:
    values = _integers(words)
    if any((word[0] in "+0 " and len(word) > 1) or _PADDED.match(word) for word in words):
        raise ValueError("padded")
    return values


def _unpadded_floats(words: Sequence[str]) -> NDArray[np.float64]:
    values = _floats(words)
    if any(_PADDED.match(word) for word in words):
        raise ValueError("padded")
    if all(word.lstrip("+-").isdigit() for word in words):
        raise ValueError("integers too long for 64 bits keep all their digits as text")
    return values


def format_rows(columns: Sequence[Column], widths: Sequence[int], exact: bool = False) -> str:
    """Turn columns into lines of STAR words, right-aligned; text is quoted where it must be.

    Floats get six decimals where these are exact (to 5e-10 of the value, or with `exact` altogether), else as many
    digits as that needs.

    Parameters
    ----------
    columns : sequence of ndarray, each of shape [rows]
    widths : sequence of int
        Characters of each column, at least.
    exact : bool
        Whether a float must read back as the same number.

    Returns
    -------
    str
        One line a row, each with its line break.

    Raises
    ------
    ValueError
        If a text holds a line break, or both kinds of quotes in a way STAR cannot hold.
    """
    forms, parts = [], []
    for column, width in zip(columns, widths, strict=True):
        form, values = _row_form(column, exact)
        forms.append(f"%{width}{form}")
        parts.append(values)
    line = " ".join(forms) + "\n"
    return "".join(map(line.__mod__, zip(*parts, strict=True)))


def _row_form(column: Column, exact: bool) -> tuple[str, Sequence[object]]:
    """Return how a column is printed, as in ``%12.6f``, and the values to print so."""
    if column.dtype.kind in "iub":
        return "d", column.tolist()
    if column.dtype.kind == "U":  # words, quoted as another program wants them
        return "s", column.tolist()
    if column.dtype.kind != "f":
        return "s", _quote_all(column.tolist())
    values = np.asarray(column, dtype=np.float64)
    short = _fit_six_decimals(values, exact)
    if short.all():
        return ".6f", values.tolist()
    pairs = zip(values.tolist(), short.tolist(), strict=True)
    return "s", [f"{value:.6f}" if fits else _long_form(value, exact) for value, fits in pairs]


def format_value(value: object, exact: bool = False) -> str:
    """Turn one value into a STAR word by the rules of `format_rows`."""
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return format_rows([np.array([value], dtype=np.float64)], [0], exact).rstrip("\n")
    return _quote(str(value))


def _fit_six_decimals(values: NDArray[np.float64], exact: bool) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.round(values, 6)
        if exact:
            return np.asarray((rounded == values) & (np.abs(values) < 1e9))
        return np.asarray((np.abs(rounded - values) <= _FLOAT_TOLERANCE * np.abs(values)) & (np.abs(values) < 1e15))


def _long_form(value: float, exact: bool) -> str:
    if exact and math.isnan(value) and math.copysign(1.0, value) < 0:
        return "-nan"  # as RELION writes it, and as some readers tell it from a number
    # Near the largest float, ten rounded digits would read as infinity.
    return repr(value) if exact or abs(value) >= 1e300 else f"{value:.10g}"


_PLAIN = re.compile(r"""[^\s"'#_;$\[\]]\S*""")
_RESERVED = re.compile(r"(?:data_|loop_|save_|stop_|global_)", re.IGNORECASE)


# In texts one below the other: the first of a line that is empty or needs quotes, or a blank anywhere.
_NOT_PLAIN = re.compile(
    r"""^(?:$|["'#_;$\[\]]|data_|loop_|save_|stop_|global_)|[^\S\n]""", re.IGNORECASE | re.MULTILINE
)


def _quote_all(texts: Sequence[object]) -> list[str]:
    """Quote what needs it; a look at all texts in one go finds that most columns need nothing."""
    words = list(map(str, texts))
    together = "\n".join(words)
    if words and together.count("\n") == len(words) - 1 and not _NOT_PLAIN.search(together):
        return words
    return [_quote(word) for word in words]


def _quote(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _RESERVED.match(text):
        return text
    if text.startswith("[") and not any(c.isspace() for c in text):
        return text  # RELION's lists of numbers
    if "\n" in text or "\r" in text:
        raise ValueError(f"text with a line break cannot be written: {text!r}")
    for quote in ('"', "'"):
        if not re.search(quote + r"\s", text):
            return f"{quote}{text}{quote}"
    raise ValueError(f"text with both kinds of quotes before spaces cannot be written: {text!r}")


_WORD = re.compile(r""""((?:[^"]|"(?=\S))*)"(?=\s|$)|'((?:[^']|'(?=\S))*)'(?=\s|$)|(\S+)""")


def split_words(line: str) -> list[str]:
    """Split one line into words, quotes removed, up to a comment.

    A quote closes only before a space or the end (``'5' end'`` is one word); one that never closes is an ordinary
    character; ``#`` opens a comment only at the start of a word.
    """
    if '"' not in line and "'" not in line and "#" not in line:
        return line.split()
    return list(_words(line))


def _words(line: str) -> Iterator[str]:
    for match in _WORD.finditer(line):
        double, single, bare = match.groups()
        if bare is None:
            yield double if double is not None else single
        elif bare.startswith("#"):
            return
        else:
            yield bare
