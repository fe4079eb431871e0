"""The gain reference and the defects of an import: do they fit, and which way up?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.formats.gain import GainOrientation, fit_gain, read_gain
from vitrea.formats.movies import EerRendering, MovieHeader, open_movie
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.motion.gain_orientation import OrientationTest
    from vitrea.records.recorder import Recorder

_EER_GROUP = 100  # raw frames rendered at a time, for the sum


@dataclass(frozen=True)
class ChosenGain:
    """A gain reference as the movies need it.

    Attributes
    ----------
    gain : ndarray of float32, shape [y, x]
        To multiply with.
    as_it_is : bool
        Whether the user's file says the same, so that none needs to be written.
    orientation : GainOrientation
        How it was turned.
    """

    gain: NDArray[np.float32]
    as_it_is: bool
    orientation: GainOrientation


def choose_gain(
    path: Path,
    given: GainOrientation | None,
    headers: dict[Path, MovieHeader],
    recorder: Recorder,
    *,
    invert: bool = False,
    movies: int = 3,
) -> ChosenGain:
    """Read the gain, and turn it as given or as fits the movies best.

    Parameters
    ----------
    path : Path
        The gain reference.
    given : GainOrientation or None
        How to turn it; None: as the test has it.
    headers : dict of Path to MovieHeader
        The movies, all of one size.
    recorder : Recorder
        Told the score of each orientation, and what is doubtful.
    invert : bool
        Whether the file divides although it should multiply, or the other way round.
    movies : int
        How many are summed for the test; 0: no test.

    Raises
    ------
    InputError
        If the gain cannot be read, or its size does not fit; or its inverse fits.
    """
    first = next(iter(headers.values()))
    shape = (first.shape[1], first.shape[2])
    gain = read_gain(path, for_eer=first.kind == "EER")
    if invert:
        gain = np.divide(1.0, gain, out=np.zeros_like(gain), where=gain > 0)
    orientation = given or GainOrientation()
    if movies:
        found = _test(path, gain, shape, list(headers), movies, recorder)
        if found.verdict == "divides":
            help = "leave out --invert-gain" if invert else "if that is how it is meant, give --invert-gain"
            raise InputError(
                f"the counts follow the inverse of the gain reference {path}, turned by {found.best}: they are high "
                f"where it is; {help}"
            )
        orientation = _decide(path, given, found, recorder)
    turned = orientation.turn(gain)
    fitted = fit_gain(turned, shape)
    if fitted is None:
        raise _misfit(path, turned.shape, shape, f"turned by {orientation}" if orientation != GainOrientation() else "")
    if first.kind == "EER":
        fitted = turned  # kept as fine as it is: the movies may be rendered finer than here
    return ChosenGain(fitted, not invert and orientation == GainOrientation() and fitted is turned, orientation)


def _misfit(path: Path, gain: tuple[int, ...], frames: tuple[int, int], how: str) -> InputError:
    how = f" {how}" if how else ""
    return InputError(
        f"the gain reference {path}{how} has {gain[1]} x {gain[0]} pixels, the movies {frames[1]} x {frames[0]}; is it "
        "that of another camera mode?"
    )


def _test(
    path: Path,
    gain: NDArray[np.float32],
    shape: tuple[int, int],
    paths: Sequence[Path],
    movies: int,
    recorder: Recorder,
) -> OrientationTest:
    from vitrea.motion.gain_orientation import find_orientation

    fitted = fit_gain(gain, shape)
    if fitted is None:
        fitted = fit_gain(gain, shape[::-1])
    if fitted is None:
        raise _misfit(path, gain.shape, shape, "")
    found = find_orientation(sum_movies(paths, movies, recorder), fitted)
    for orientation, score in found.scores:
        if not np.isnan(score):
            recorder.event(
                "gain_orientation", rotation=orientation.rotation, flip=orientation.flip, score=round(score, 4),
                chance=round(found.chance, 5),
            )  # fmt: skip
    return found


def _decide(path: Path, given: GainOrientation | None, found: OrientationTest, recorder: Recorder) -> GainOrientation:
    if found.verdict == "none":
        recorder.warn(
            f"no orientation of the gain reference {path} explains the counts: the movies may be corrected already, or "
            f"it is not theirs; it is taken {given or 'as it lies'}"
        )
        return given or GainOrientation()
    if given is not None and given.turn(_PROBE).tolist() != found.best.turn(_PROBE).tolist():
        recorder.warn(
            f"the gain reference {path} is turned by {given} as given, but {found.best} fits the counts better"
        )
    recorder.event("text", text=f"{path} fits the counts when turned by {found.best}")
    return given or found.best


# Nine different pixels: two names of one orientation turn them alike.
_PROBE = np.arange(9).reshape(3, 3)


def sum_movies(paths: Sequence[Path], count: int, recorder: Recorder) -> NDArray[np.float32]:
    """Return the sum of all uncorrected frames of some movies, evenly spread over the list, shape [y, x].

    A movie that cannot be read is left out.

    Raises
    ------
    InputError
        If none can be read.
    """
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    recorder.stage("Summing movies to test the gain", len(chosen), "movies")
    total: NDArray[np.float32] | None = None
    for path in chosen:
        try:
            one = _sum_movie(path)
        except InputError as error:
            recorder.warn(f"left out of the test of the gain: {error}")
            continue
        total = one if total is None else total + one
        recorder.advance()
    if total is None:
        raise InputError(f"none of {len(chosen)} movies can be read to test the gain reference, {chosen[0]} among them")
    return total


def _sum_movie(path: Path) -> NDArray[Any]:
    grouping = 1
    if path.suffix.lower() == ".eer":
        with open_movie(path, EerRendering(1)) as movie:
            grouping = min(_EER_GROUP, movie.header.raw_frames)
    with open_movie(path, EerRendering(grouping)) as movie:
        total = np.zeros(movie.header.shape[1:], dtype=np.float32)
        for frame in movie:
            total += frame
    return total
