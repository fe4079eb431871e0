"""Particles judged one by one against the classes that are kept: is there one particle, and at the centre?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.jobs.particle_inputs import chunks
from vitrea.jobs.select_classes import ClassChoice
from vitrea.jobs.sort import SortParameters, SortTask, counted, prepare_task
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.selection.brightness import BrightnessMaker, excess, usual_spectrum
from vitrea.selection.differences import PairMaker, Transfer
from vitrea.selection.evidence import OFFSET_SIGMAS, Evidence, Views
from vitrea.selection.hypotheses import HYPOTHESES, Verdict, weigh
from vitrea.selection.sorting import UnusableImagesError, measure_whitening, usable

_PROBES = 1000  # images that tell noise and usual spectrum


def judge_particles(choice: ClassChoice, recorder: Recorder) -> Verdict:
    """Weigh for every particle of a 2D classification what its image shows.

    Parameters
    ----------
    choice : ClassChoice
        Of averages, at least one of them kept.
    recorder : Recorder

    Raises
    ------
    InputError
        If images are missing, or none can be used.
    """
    results = choice.results
    given = SortParameters(
        input=results.particles,
        reference=results.model,
        particle_diameter=results.diameter,
        ctf=results.ctf_corrected,
    )
    task = prepare_task(given, recorder)
    count, size = len(task.particles), task.images.box_size
    references = [torch.from_numpy(image) for image in task.references.images]
    radius = min(int(size * task.images.pixel_size / task.resolution), (size - 1) // 2)
    maker = PairMaker(references, task.images.pixel_size, radius, Transfer(ctf=given.ctf))
    probe = np.unique(np.linspace(0, count - 1, min(_PROBES, count)).astype(np.int64))
    try:
        whitening = measure_whitening(maker, task.particles, task.classes, task.load, probe)
    except UnusableImagesError as error:
        raise InputError(f"{task.particles.source}: {error}") from None
    kept = np.flatnonzero(choice.kept)
    shares = np.maximum(results.counts[kept], 1).astype(np.float64)
    views = Views([references[place] for place in kept], shares, maker, task.diameter)
    brightness = BrightnessMaker(size, task.diameter / task.images.pixel_size)
    evidence, measured = _measure(task, views, brightness, whitening, probe, recorder)
    verdict = weigh(evidence, excess(measured), measured.shape[1])
    _report(verdict, recorder)
    return verdict


def _measure(
    task: SortTask,
    views: Views,
    brightness: BrightnessMaker,
    whitening: torch.Tensor,
    probe: NDArray[np.int64],
    recorder: Recorder,
) -> tuple[Evidence, NDArray[np.float64]]:
    """Evidence and powers of all particles, in their order; NaN for images that cannot be used."""
    count = len(task.particles)
    spectra = []
    for rows in np.array_split(probe, max(1, len(probe) // 100)):
        images = task.load(rows)
        spectra.append(brightness.spectra(torch.from_numpy(images[usable(images)])))
    usual = usual_spectrum(spectra)
    centred = np.full((count, len(OFFSET_SIGMAS)), np.nan)
    elsewhere, pair = np.full((2, count), np.nan)
    measured = np.full((count, brightness.numbers), np.nan)
    recorder.stage("Looking for particles", count, "particles")
    for rows in counted(chunks(count, task.images.box_size), recorder):
        images = task.load(rows)
        good = usable(images)
        if not good.any():
            continue
        pixels, some = torch.from_numpy(images[good]), rows[good]
        found = views.evidence(pixels, task.particles.rows(some), whitening)
        centred[some], elsewhere[some], pair[some] = found.centred, found.elsewhere, found.pair
        measured[some] = brightness.measure(pixels, usual)
    return Evidence(centred, elsewhere, pair), measured


def _report(verdict: Verdict, recorder: Recorder) -> None:
    shares = ", ".join(f"{name} {100 * share:.1f}%" for name, share in zip(HYPOTHESES, verdict.shares, strict=True))
    recorder.event("text", text=f"images show: {shares}; particles lie about {verdict.offset_sigma:g} Å off the centre")
