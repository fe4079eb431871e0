"""Stacks of images whatever their format: MRC, SPIDER (and XMIPP's), IMAGIC; the ending tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vitrea.formats.imagic import open_imagic, read_imagic_header
from vitrea.formats.mrc import open_stack, read_header
from vitrea.formats.spider import open_spider, read_spider_header

SPIDER_ENDINGS = frozenset({".spi", ".stk", ".xmp", ".vol"})
IMAGIC_ENDINGS = frozenset({".img", ".hed"})


@dataclass(frozen=True)
class StackHeader:
    """What a header says of a stack.

    Attributes
    ----------
    shape : tuple of int
        Images, rows, columns.
    pixel_size : float
        Å; 0 where the file does not tell.
    """

    shape: tuple[int, int, int]
    pixel_size: float


def read_stack_header(path: str | Path) -> StackHeader:
    """Read the header of a stack and check the file's length; InputError where that fails."""
    ending = Path(path).suffix.lower()
    if ending in SPIDER_ENDINGS:
        spider = read_spider_header(path)
        return StackHeader(spider.shape, spider.pixel_size)
    if ending in IMAGIC_ENDINGS:
        return StackHeader(read_imagic_header(path).shape, 0.0)
    header = read_header(path)
    return StackHeader(header.shape, header.pixel_size)


def open_images(path: str | Path) -> NDArray[Any]:
    """Open a stack without reading it: shape [n, y, x], in the type of the file; InputError where that fails."""
    ending = Path(path).suffix.lower()
    if ending in SPIDER_ENDINGS:
        return open_spider(path)
    return open_imagic(path) if ending in IMAGIC_ENDINGS else open_stack(path)
