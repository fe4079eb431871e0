"""Which files can be used, and why the others cannot: headers, sizes, pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitrea.compute.processors import available_threads
from vitrea.formats.movies import EerRendering, MovieHeader, open_movie, read_movie_header
from vitrea.jobs.set_aside import SetAside, write_set_aside
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.records.wording import number_of

_THREADS = 8  # headers are small: what takes time is the disk, or the network before it
_SHOWN = 20  # warnings; the file has all
_EER_MISSING = 0.1  # raw frames by which EER movies may fall short of most; a few always differ
_EER_PARTS = 10  # frames that an EER movie is divided into when its pixels are looked at
RAW_FRAMES = EerRendering(grouping=1)

Result = TypeVar("Result")


def over_files(
    paths: Sequence[Path], check: Callable[[Path], Result], recorder: Recorder, stage: str, threads: int = _THREADS
) -> tuple[dict[Path, Result], list[SetAside]]:
    """Apply a check to all files, several at a time; those for which it raises InputError are set aside."""
    good: dict[Path, Result] = {}
    aside: list[SetAside] = []
    recorder.stage(stage, len(paths), "files")

    def attempt(path: Path) -> Result | InputError:
        try:
            return check(path)
        except InputError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        for path, result in zip(paths, pool.map(attempt, paths), strict=True):
            recorder.advance()
            if isinstance(result, InputError):
                aside.append(SetAside(str(path), str(result)))
            else:
                good[path] = result
    return good, aside


def check_headers(paths: Sequence[Path], recorder: Recorder) -> tuple[dict[Path, MovieHeader], list[SetAside]]:
    """Read the headers of all movies or micrographs, and tell which are truncated, corrupt or of no known format."""
    return over_files(paths, lambda path: read_movie_header(path, RAW_FRAMES), recorder, "Reading headers")


def find_odd_ones(
    headers: dict[Path, MovieHeader], noun: str, like: tuple[Path, MovieHeader] | None = None
) -> list[SetAside]:
    """Return the files that differ from most in pixels along x and y, in pixel type, or in number of frames.

    EER movies differ by a few raw frames as a rule; those are set aside that lack a tenth. With `like`, a file of an
    earlier import and its header, they are compared with that one.
    """
    aside: list[SetAside] = []
    left = dict(headers)
    checks: list[tuple[Callable[[MovieHeader], object], Callable[[MovieHeader], str]]] = [
        (lambda header: header.shape[1:], lambda header: f"{header.shape[2]} x {header.shape[1]} pixels"),
        (lambda header: header.dtype, lambda header: f"pixels of type {header.dtype}"),
        (_frames, lambda header: f"{number_of(header.shape[0], 'frame')}"),
    ]
    for of, describe in checks:
        if not left:
            break
        usual, count = Counter(map(of, left.values())).most_common(1)[0]
        example = next(header for header in left.values() if of(header) == usual)
        many = f"{count} of {len(headers)} {noun}s have"
        if like is not None:
            usual, example, many = of(like[1]), like[1], f"{like[0]}, imported earlier, has"
        for path, header in list(left.items()):
            if of(header) != usual:
                aside.append(SetAside(str(path), f"{path} has {describe(header)}, but {many} {describe(example)}"))
                del left[path]
    return aside + _short_eer_movies(left)


def _frames(header: MovieHeader) -> int:
    return 0 if header.kind == "EER" else header.shape[0]


def _short_eer_movies(headers: dict[Path, MovieHeader]) -> list[SetAside]:
    events = {path: header.raw_frames for path, header in headers.items() if header.kind == "EER"}
    if not events:
        return []
    usual = int(np.median(list(events.values())))
    return [
        SetAside(str(path), f"{path} has {frames} raw frames, but most EER movies have about {usual}")
        for path, frames in events.items()
        if frames < (1 - _EER_MISSING) * usual
    ]


def check_pixels(path: Path, which: str) -> None:
    """Read frames and look at their values.

    Parameters
    ----------
    path : Path
        A movie or micrograph.
    which : str
        "ends": the first and the last frame, or "all".

    Raises
    ------
    InputError
        If a frame cannot be decoded, holds NaN or infinite values, or one value everywhere.
    """
    with open_movie(path, _rendering(path)) as movie:
        frames: Iterable[int] = range(len(movie)) if which == "all" else sorted({0, len(movie) - 1})
        for number in frames:
            frame = movie.read(number)
            low, high = frame.min(), frame.max()  # NaN passes through both
            where = f"frame {number + 1} of {path}" if len(movie) > 1 else str(path)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputError(f"{where} holds NaN or infinite values")
            if low == high:
                raise InputError(f"{where} is empty: all its pixels are {low:g}")


def _rendering(path: Path) -> EerRendering:
    """Return how to render an EER movie whose frames are looked at: a raw one may well hold no electron."""
    if path.suffix.lower() != ".eer":
        return RAW_FRAMES
    raw = read_movie_header(path, RAW_FRAMES).raw_frames
    return EerRendering(max(raw // _EER_PARTS, 1))


def check_exposures(
    paths: Sequence[Path],
    noun: str,
    recorder: Recorder,
    *,
    pixels: str = "none",
    accept_any_size: bool = False,
    like: Path | None = None,
) -> tuple[dict[Path, MovieHeader], list[SetAside]]:
    """Check movies or micrographs: headers, what most have in common, and pixels if asked for.

    Parameters
    ----------
    paths : sequence of Path
    noun : "movie" or "micrograph"
    recorder : Recorder
    pixels : str
        "none", or which frames `check_pixels` looks at.
    accept_any_size : bool
        Keep files that differ from most.
    like : Path, optional
        A file of an earlier import, which they must be like.

    Returns
    -------
    headers : dict of Path to MovieHeader
        Of the files that can be used, in order.
    aside : list of SetAside
        The others.

    Raises
    ------
    InputError
        If no file can be used.
    """
    headers, aside = check_headers(paths, recorder)
    for path, header in headers.items():
        if noun == "micrograph" and header.shape[0] > 1:
            aside.append(SetAside(str(path), f"{path} holds {header.shape[0]} images; is it a movie?"))
        elif noun == "movie" and header.shape[0] == 1:
            aside.append(SetAside(str(path), f"{path} holds one image only; is it a micrograph?"))
    headers = _kept(headers, aside)
    if not accept_any_size:
        aside += find_odd_ones(headers, noun, None if like is None else (like, read_movie_header(like, RAW_FRAMES)))
        headers = _kept(headers, aside)
    if pixels != "none":
        checked, bad = over_files(
            list(headers), lambda path: check_pixels(path, pixels), recorder, "Reading pixels", available_threads()
        )
        headers, aside = {path: headers[path] for path in checked}, aside + bad
    if not headers:
        more = f" ({number_of(len(aside) - 1, f'more {noun}')} cannot be used)" if len(aside) > 1 else ""
        raise InputError(f"{aside[0].reason}{more}" if aside else f"there are no {noun}s")
    return headers, aside


def _kept(headers: dict[Path, MovieHeader], aside: Iterable[SetAside]) -> dict[Path, MovieHeader]:
    names = {one.name for one in aside}
    return {path: header for path, header in headers.items() if str(path) not in names}


def report_set_aside(aside: Sequence[SetAside], total: int, noun: str, path: Path, recorder: Recorder) -> None:
    """Warn of the files set aside, at the end, and list them all in a STAR file; without any, remove it."""
    write_set_aside(path, "vitreaFileName", aside)
    if not aside:
        return
    for one in aside[:_SHOWN]:
        recorder.warn(f"set aside: {one.sentence}")
    if len(aside) > _SHOWN:
        recorder.warn(f"... and {len(aside) - _SHOWN} more")
    recorder.warn(f"set aside {len(aside)} of {number_of(total, noun)}; {path} lists them with the reasons")
