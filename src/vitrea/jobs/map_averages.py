"""Frames summed, and images averaged, before anything else is done to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.map_parameters import MapParameters
from vitrea.jobs.map_sources import Source
from vitrea.records.errors import InputError


def averaged(parameters: MapParameters, sources: Iterator[Source]) -> tuple[Source, NDArray[np.float64]]:
    """Return the mean of all images, or sums of frames, shape [m, y, x], and a source that tells about them.

    Raises
    ------
    InputError
        If it is a map, images differ in size, or there are not the frames asked for.
    """
    first: Source | None = None
    total = np.zeros(0)
    count = 0
    for source in sources:
        if source.dims == 3:
            raise InputError(f"{source.file.path} is a map; frames and images of stacks are averaged (see --kind)")
        if not parameters.average:
            return source, frame_sums(parameters, source)
        if first is None:
            first, total = source, np.zeros(source.shape)
        if source.shape != first.shape:
            raise InputError(f"{source.file.path} has images of another size than {first.file.path}")
        for _, images in source.chunks():
            total += images.sum(axis=0, dtype=np.float64)
            count += len(images)
    assert first is not None  # a file that is read holds images
    return replace(first, sections=first.sections[:1]), total[None] / count


def frame_sums(parameters: MapParameters, source: Source) -> NDArray[np.float64]:
    """Sum every so many frames, or those from one to another, as RELION does; frames that remain are left out."""
    count = len(source.sections)
    if parameters.avg_bin:
        groups = [
            range(start, start + parameters.avg_bin)
            for start in range(0, count - parameters.avg_bin + 1, parameters.avg_bin)
        ]
        if not groups:
            raise InputError(f"{source.file.path} has {count} frames, fewer than --avg_bin {parameters.avg_bin}")
    else:
        first, last = parameters.avg_first or 1, parameters.avg_last or count
        if not first <= last <= count:
            raise InputError(
                f"--avg_first {first} --avg_last {last}: {source.file.path} has frames 1 to {count}, in this order"
            )
        groups = [range(first - 1, last)]
    sums = np.zeros((len(groups), *source.shape))
    for number, frames in enumerate(groups):
        for frame in frames:
            sums[number] += source.file.load([source.sections[frame]])[0]
    return sums
