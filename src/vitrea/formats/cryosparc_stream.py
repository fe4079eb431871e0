"""cryoSPARC's compressed data sets (``.cs`` that begin with ``CSDAT``), as cryosparc-tools writes them on request.

After six bytes that tell the version, the length of a header and the header (JSON: fields with numpy's types, which of
them are compressed and how), each field follows on its own: its size in bytes and its values, one after the other.
Until version 4.3 fields are compressed by snappy and texts are of fixed length; from 4.4 on by LZ4, and a text is a
place in the heap of texts, each ended by a zero byte, with which the file ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = (b"\x94CSDAT", b"\x95CSDAT")
"""How such files begin: until version 4.3 of cryosparc-tools, and from 4.4 on."""

_LENGTH = 4  # bytes of a length, least significant first


def decode_stream(content: bytes) -> dict[str, NDArray[Any]]:
    """Decode a compressed data set.

    Parameters
    ----------
    content : bytes
        The whole file.

    Returns
    -------
    dict of str to ndarray
        The values of each field, shape [rows] or [rows, elements]; texts are of type object.

    Raises
    ------
    ValueError
        If the file is cut off or damaged, or compressed in a way that is not known.
    """
    place = len(MAGIC[0])
    try:
        head, place = _part(content, place)
        header = json.loads(head)
        fields = [(name, np.dtype((kind, tuple(*shape)))) for name, kind, *shape in header["dtype"]]
        compressed, compression = set(header["compressed_fields"]), header["compression"]
        rows = header.get("length")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its header cannot be read ({error})") from None
    if compressed and compression not in ("snap", "lz4"):
        raise ValueError(f"its fields are compressed by {compression}, which is not known here")
    values: dict[str, NDArray[Any]] = {}
    for name, kind in fields if rows != 0 else ():
        part, place = _part(content, place)
        stored = np.dtype("<u8") if kind.hasobject else kind
        size = None if rows is None else rows * stored.itemsize
        decoded = _decompressor(compression, size)(part) if name in compressed else part
        if len(decoded) % stored.itemsize or (size is not None and len(decoded) != size):
            raise ValueError(f"its field {name} is damaged")
        values[name] = np.frombuffer(decoded, stored.base).reshape(-1, *stored.shape)
    heap = content[place:]
    values |= {name: _texts(values[name], heap) for name, kind in fields if kind.hasobject and name in values}
    return values or {name: np.empty((0, *kind.shape), kind.base) for name, kind in fields}


def _part(content: bytes, place: int) -> tuple[bytes, int]:
    """Return the bytes whose length stands at a place, and the place behind them."""
    begin = place + _LENGTH
    end = begin + int.from_bytes(content[place:begin], "little")
    if len(content) < max(begin, end):
        raise ValueError("it is cut off")
    return content[begin:end], end


def _decompressor(compression: str, size: int | None) -> Callable[[bytes], bytes]:
    import imagecodecs

    def decompress(part: bytes) -> bytes:
        try:
            if compression == "snap":
                return bytes(imagecodecs.snappy_decode(part))
            return bytes(imagecodecs.lz4_decode(part, header=False, out=size))
        except Exception as error:
            raise ValueError(f"a compressed field cannot be decoded ({error})") from None

    return decompress


def _texts(places: NDArray[np.uint64], heap: bytes) -> NDArray[np.object_]:
    """Return the texts at places of the heap."""
    unique, which = np.unique(places, return_inverse=True)
    texts = np.empty(len(unique), dtype=object)
    for number, place in enumerate(unique.tolist()):
        end = heap.find(b"\0", place)
        if end < 0:
            raise ValueError("its texts are cut off")
        texts[number] = heap[place:end].decode("utf-8", "replace")
    return np.asarray(texts[which.reshape(places.shape)])
