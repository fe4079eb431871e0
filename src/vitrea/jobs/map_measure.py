"""What ``vitrea map`` measures: statistics, centres of mass, FSC, spectra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.fsc_tables import shell_columns
from vitrea.formats.streams import STREAM, text_output
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.map_parameters import MapParameters
from vitrea.jobs.map_sources import Source, open_source
from vitrea.records.errors import InputError
from vitrea.records.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrea.records.recorder import Recorder

_SAME_SIZE = 0.01


def measure(parameters: MapParameters, sources: Iterator[Source], recorder: Recorder) -> None:
    """Measure what is asked for; the result goes to the output or, where none is named, to standard output.

    The recorder hears where an FSC falls.

    Raises
    ------
    InputError
        If a file cannot be read, or does not allow the measurement.
    """
    output = parameters.output or STREAM
    make_folder(Path(output))
    if parameters.fsc is not None:
        _fsc(parameters, next(sources), output, recorder)
    elif parameters.spectrum:
        _spectrum(sources, output)
    else:
        with text_output(output) as file:
            for source in sources:
                for name, image in _images(source):
                    line = _statistics if parameters.stats else _centre
                    file.write(f"{name} : {line(image, source.pixel_size)}\n")


def _images(source: Source) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for places, images in source.chunks():
        for place, image in zip(places.tolist(), images, strict=True):
            yield source.names[place], image


def _statistics(image: NDArray[np.float32], pixel_size: float) -> str:
    """Return what RELION's image handler prints, in its words, so that scripts which take it apart go on."""
    z, y, x = (1,) * (3 - image.ndim) + image.shape
    good = np.isfinite(image)
    values = image[good].astype(np.float64)
    bad = f" ; NaN or infinite= {image.size - len(values)}" if len(values) < image.size else ""
    if not len(values):
        return f"(x,y,z,n)= {x} x {y} x {z} x 1{bad}"
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return (
        f"(x,y,z,n)= {x} x {y} x {z} x 1 ; avg= {values.mean():.6g} stddev= {deviation:.6g} minval= {values.min():.6g} "
        f"maxval= {values.max():.6g} ; angpix = {pixel_size:.6g}{bad}"
    )


def _centre(image: NDArray[np.float32], pixel_size: float) -> str:
    from vitrea.maps.image_operations import positive_centre_of_mass

    centre = positive_centre_of_mass(np.nan_to_num(image))
    where = " ".join(f"{axis}= {value:.4f}" for axis, value in zip("xyz", centre.tolist(), strict=False))
    return f"centre of mass {where} pixels from the centre of the box ({pixel_size:.6g} Å)"


def _one(source: Source) -> NDArray[np.float32]:
    """Return the one image or map that a source is."""
    if source.dims == 2 and len(source.sections) > 1:
        raise InputError(
            f"{source.file.path} holds {len(source.sections)} images; name one, as in 3@{source.file.path}"
        )
    image: NDArray[np.float32] = next(source.chunks())[1][0]
    if len(set(image.shape)) > 1:
        raise InputError(
            f"{source.file.path} must be square, or a cube; it is {' x '.join(map(str, image.shape[::-1]))}"
        )
    if not np.isfinite(image).all():
        raise InputError(f"{source.file.path} holds NaN or infinite values; replace them with --remove_nan first")
    return image


def _fsc(parameters: MapParameters, source: Source, output: str, recorder: Recorder) -> None:
    import torch

    from vitrea.formats.star import write_star
    from vitrea.fourier.fsc import fourier_shell_correlation, interpolated_resolution_at

    other = open_source(str(parameters.fsc), parameters.pixel_size, parameters.kind)
    first, second = _one(source), _one(other)
    if first.shape != second.shape:
        raise InputError(f"--fsc {parameters.fsc} and {source.file.path} differ in box: bring them to one first")
    if abs(source.pixel_size - other.pixel_size) > _SAME_SIZE * source.pixel_size:
        raise InputError(
            f"--fsc {parameters.fsc} has {other.pixel_size:g} Å per pixel, {source.file.path} {source.pixel_size:g}; "
            "give --angpix if a header is wrong"
        )
    one, two = torch.from_numpy(first).double(), torch.from_numpy(second).double()
    fsc = fourier_shell_correlation(one, two, source.dims)
    size, pixel = first.shape[-1], source.pixel_size
    comment = "\n".join(
        f"FSC = {threshold}: {interpolated_resolution_at(fsc, threshold, pixel, size):.3f} Å"
        for threshold in (0.143, 0.5)
    )
    recorder.event("text", text=comment.replace("\n", ", "))
    table = {**shell_columns(size, pixel), "rlnFourierShellCorrelation": fsc.numpy()}
    if Path(output).suffix.lower() == ".png":
        from vitrea.report.figures import fsc_curves

        _draw(fsc_curves({"FSC": fsc.numpy()}, pixel, size, (0.143, 0.5)), output)
        return
    write_star(output, {"fsc": Table(table)}, comment)


def _spectrum(sources: Iterator[Source], output: str) -> None:
    """Write the mean of all images' spectra, on RELION's scale (transforms divided by the number of pixels)."""
    import torch

    from vitrea.formats.star import write_star
    from vitrea.maps.image_operations import shell_spectra

    amplitude = power = np.zeros(0)
    count = 0
    size, pixel = 0, 0.0
    for source in sources:
        for _, images in source.chunks():
            if not np.isfinite(images).all():
                raise InputError(
                    f"{source.file.path} holds NaN or infinite values; replace them with --remove_nan first"
                )
            if size and max(source.shape) != size:
                raise InputError(f"{source.file.path} has another size than the images before it")
            size, pixel = max(source.shape), source.pixel_size
            spectra = shell_spectra(torch.from_numpy(images).double(), source.dims)
            mine, other = (curve.sum(dim=0).numpy() for curve in spectra)
            amplitude, power = (mine, other) if not count else (amplitude + mine, power + other)
            count += len(images)
    amplitude, power = amplitude / count, power / count
    if Path(output).suffix.lower() == ".png":
        _draw(_guinier(amplitude, power, size * pixel), output)
        return
    squared = (np.arange(size // 2 + 1) / (size * pixel)) ** 2
    table = {
        **shell_columns(size, pixel),
        "rlnResolutionSquared": squared,
        "rlnLogAmplitudesOriginal": _logarithm(amplitude),
        "vitreaAmplitude": amplitude,
        "vitreaPower": power,
    }
    write_star(output, {"spectrum": Table(table)})


def _logarithm(amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    from vitrea.maps.sharpening import NO_AMPLITUDE

    return np.where(amplitude > 0, np.log(np.where(amplitude > 0, amplitude, 1.0)), NO_AMPLITUDE)


def _guinier(amplitude: NDArray[np.float64], power: NDArray[np.float64], extent: float) -> Figure:
    from vitrea.report.figures import spectrum_curves

    return spectrum_curves(amplitude, power, extent)


def _draw(figure: Figure, output: str) -> None:
    from vitrea.report.png import save_png

    save_png(figure, output)
