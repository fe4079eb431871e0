"""``vitrea sharpen``: B-factors, spectral flattening, figures of merit; chosen by hand or by the map itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.sharpen_parameters import SharpenParameters
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.maps.sharpening_choice import SharpeningChoice
    from vitrea.maps.spectral_sharpening import SpectralSettings

_MASK_EDGE = 10.0  # Å of a spherical mask's cosine edge, centred on its radius, as in cisTEM
_HIGH_FSC = 0.143
# What --auto chooses, by the name of its parameter.
_CHOSEN = {
    "bfactor": "bfactor_low",
    "bfactor_high": "bfactor_high",
    "limit": "limit",
    "flatten": "flatten",
    "flatten_signal": "flatten_signal",
    "protein": "protein",
    "cutoff": "cutoff",
    "filter_edge": "filter_edge",
}


@dataclass(frozen=True)
class SharpenInputs:
    """What is sharpened, and by what it is judged.

    Attributes
    ----------
    density : Map
    name : str
        Where it comes from.
    mask : ndarray, shape [n, n, n]
        Where amplitudes are measured.
    mask_name : str
        What it is.
    given_mask : bool
        Whether it follows the molecule, so that a masked map is worth writing.
    fsc : ndarray, shape [n // 2 + 1], or None
        Between half maps.
    fsc_name : str
        Where it comes from.
    """

    density: Map
    name: str
    mask: NDArray[np.float32]
    mask_name: str
    given_mask: bool
    fsc: NDArray[np.float64] | None
    fsc_name: str


def run(parameters: SharpenParameters, context: Context) -> None:
    """Sharpen, write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other, or options contradict each other.
    """
    from vitrea.jobs.sharpen_files import output_root, write_results
    from vitrea.maps.spectral_sharpening import figure_of_merit, sharpen_spectrum

    inputs = read_inputs(parameters, context)
    settings, choice = choose_settings(parameters, inputs, context)
    make_folder(output_root(parameters.output))
    context.recorder.stage("sharpening")
    merit = None
    if inputs.fsc is not None and parameters.fom_weighting:
        merit = figure_of_merit(inputs.fsc, parameters.ssnr_scale)
    result = sharpen_spectrum(inputs.density.voxels, inputs.density.voxel_size, settings, inputs.mask, merit)
    inputs, result = _finish(parameters, inputs, result)
    write_results(parameters, inputs, settings, choice, result, context)
    context.recorder.event(
        "sharpen",
        bfactor_angstrom2=settings.bfactor_low,
        bfactor_high_angstrom2=settings.bfactor_high,
        flattened_from_angstrom=settings.limit if settings.flatten else 0.0,
        cutoff_angstrom=settings.cutoff,
    )


def read_inputs(parameters: SharpenParameters, context: Context) -> SharpenInputs:
    """Read map, half maps, FSC and mask.

    Raises
    ------
    InputError
        If a file is missing, they do not fit each other, or too little or too much is given.
    """
    from vitrea.jobs.half_map_inputs import read_map_or_halves

    if parameters.half1 is not None and parameters.fsc is not None:
        raise InputError("give the FSC with --fsc or half maps with --half1, not both")
    if parameters.mask is not None and parameters.auto_mask:
        raise InputError("give --mask or --auto_mask, not both")
    _check_unused(parameters)
    density, name, halves = read_map_or_halves(
        parameters.input, parameters.half1, parameters.half2, parameters.pixel_size, context.recorder
    )
    mask, mask_name = _mask(parameters, density, halves)
    given = parameters.mask is not None or parameters.auto_mask
    fsc, fsc_name = _fsc(parameters, density, halves, mask if given else None)
    return SharpenInputs(density, name, mask, mask_name, given, fsc, fsc_name)


def _check_unused(parameters: SharpenParameters) -> None:
    """Refuse options that nothing would look at."""
    if parameters.fsc is None and parameters.half1 is None:
        needs = "needs the FSC of the half maps: give --fsc, or --half1 and --half2"
        refuse_unused(parameters, ("auto", "flatten_signal", "ssnr_scale"), needs)
    if parameters.fsc is None:
        refuse_unused(parameters, ("fsc_column",), "names a column of --fsc, which is not given")
    if not parameters.fom_weighting:
        refuse_unused(parameters, ("ssnr_scale",), "scales the weights that --no-fom-weighting leaves out")
    if not parameters.flatten:
        refuse_unused(parameters, ("flatten_signal", "protein"), "says how to flatten: leave out --no-flatten")
    if parameters.limit == 0:
        refuse_unused(parameters, ("bfactor_high",), "acts beyond --limit, which is 0: nowhere")
    if parameters.mask is not None or parameters.auto_mask:
        radii = ("inner_radius",) if parameters.correct_gridding else ("inner_radius", "outer_radius")
        refuse_unused(parameters, radii, "is that of a spherical mask: leave out the other mask")
    if not parameters.correct_gridding:
        refuse_unused(parameters, ("gridding_padding",), "is for --correct_gridding: give that, too")


def _mask(
    parameters: SharpenParameters, density: Map, halves: tuple[Map, Map] | None
) -> tuple[NDArray[np.float32], str]:
    from vitrea.maps.automatic_mask import auto_mask
    from vitrea.maps.masking import sphere_mask

    size, voxel_size = density.voxels.shape[0], density.voxel_size
    if parameters.mask is not None:
        like = parameters.input or parameters.half1
        assert like is not None
        return read_mask(parameters.mask, density, like, parameters.pixel_size), str(parameters.mask)
    if parameters.auto_mask:
        pair = halves or (density, density)
        try:
            return auto_mask(pair[0].voxels, pair[1].voxels, voxel_size).voxels, "automatic"
        except ValueError as error:
            raise InputError(f"--auto_mask: {error} with --mask") from error
    outer = parameters.outer_radius or size * voxel_size / 2
    if parameters.inner_radius >= outer:
        raise InputError(
            f"--inner_radius ({parameters.inner_radius:g} Å) must be smaller than the outer one ({outer:g} Å)"
        )
    inner = parameters.inner_radius + _MASK_EDGE / 2 if parameters.inner_radius else 0.0
    edge = _MASK_EDGE / voxel_size
    mask = sphere_mask(size, max(outer - _MASK_EDGE / 2, 0.0) / voxel_size, edge, inner / voxel_size)
    hole = f" without one of {parameters.inner_radius:.0f} Å" if parameters.inner_radius else ""
    return mask, f"a sphere of radius {outer:.0f} Å{hole}"


def _fsc(
    parameters: SharpenParameters,
    density: Map,
    halves: tuple[Map, Map] | None,
    mask: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float64] | None, str]:
    from vitrea.formats.fsc_tables import read_fsc_curve
    from vitrea.maps.half_maps import half_map_fsc

    if parameters.fsc is not None:
        curve = read_fsc_curve(parameters.fsc, parameters.fsc_column)
        return curve.of_shells(density.voxels.shape[0], density.voxel_size), f"{curve.name} of {parameters.fsc}"
    if halves is None:
        return None, "none"
    found = half_map_fsc(halves[0].voxels, halves[1].voxels, density.voxel_size, mask)
    kind = "unmasked" if mask is None else "corrected for the mask"
    return found.corrected, f"of the half maps, {kind}"


def choose_settings(
    parameters: SharpenParameters, inputs: SharpenInputs, context: Context
) -> tuple[SpectralSettings, SharpeningChoice | None]:
    """Return the settings, and with --auto what they rest on; what the user gave stands.

    Raises
    ------
    InputError
        If something asked for needs an FSC that is not there, or settings contradict each other.
    """
    from vitrea.maps.sharpening_choice import choose_sharpening
    from vitrea.maps.spectral_sharpening import SpectralSettings

    choice = None
    if parameters.auto:
        assert inputs.fsc is not None
        density = inputs.density
        try:
            choice = choose_sharpening(density.voxels, density.voxel_size, inputs.fsc, inputs.mask)
        except ValueError as error:
            raise InputError(f"--auto: {error}") from error
        given = parameters.model_fields_set & set(_CHOSEN)
        settings = replace(choice.settings, **{_CHOSEN[name]: getattr(parameters, name) for name in given})
    else:
        values: dict[str, Any] = {setting: getattr(parameters, name) for name, setting in _CHOSEN.items()}
        settings = SpectralSettings(**values)
    if settings.cutoff == 0:
        settings = replace(settings, cutoff=_cutoff(inputs, settings, context))
    extent, nyquist = inputs.density.voxels.shape[0] * inputs.density.voxel_size, 2 * inputs.density.voxel_size
    if settings.cutoff >= extent:
        raise InputError(f"--cutoff {settings.cutoff:g} Å leaves nothing of a map whose box has {extent:.4g} Å")
    finest = max(settings.cutoff, nyquist)
    if settings.limit and settings.limit <= finest:
        what = "cut-off" if settings.cutoff > nyquist else "finest detail that these voxels hold"
        context.recorder.warn(
            f"nothing is flattened: the {what} ({finest:.2f} Å) is not finer than the limit ({settings.limit:g} Å)"
        )
    return settings, choice


def _cutoff(inputs: SharpenInputs, settings: SpectralSettings, context: Context) -> float:
    """Return the resolution at which the FSC falls below 0.143; 0 without an FSC."""
    from vitrea.fourier.fsc import interpolated_resolution_at

    if inputs.fsc is None:
        context.recorder.warn(
            "no cut-off is given, and no FSC that would tell one: noise up to Nyquist is amplified; give --cutoff"
        )
        return 0.0
    size = inputs.density.voxels.shape[0]
    found = interpolated_resolution_at(inputs.fsc.tolist(), _HIGH_FSC, inputs.density.voxel_size, size)
    if not np.isfinite(found):
        raise InputError(f"the FSC ({inputs.fsc_name}) is below {_HIGH_FSC} from the first shell on: give --cutoff")
    return float(found)


def _finish(parameters: SharpenParameters, inputs: SharpenInputs, result: Any) -> tuple[SharpenInputs, Any]:
    """Correct for gridding, change the hand of map and mask, and normalise."""
    from vitrea.maps.spectral_sharpening import change_hand, correct_gridding, normalise

    density = result.density
    if parameters.correct_gridding:
        radius = parameters.outer_radius / inputs.density.voxel_size
        density = correct_gridding(density, radius, parameters.gridding_padding)
    if parameters.invert_hand:
        density = change_hand(density)
        inputs = replace(inputs, mask=change_hand(inputs.mask))
    if parameters.normalise > 0:
        density = normalise(density, parameters.normalise)
    return inputs, replace(result, density=density)


JOB = Job(
    name="sharpen",
    summary="Sharpen a map by B-factors, spectral flattening and figures of merit, or automatically.",
    parameters=SharpenParameters,
    run=run,
    examples=(
        "vitrea sharpen filtered_molecule.mrc --limit 20 --cutoff 12 --o Sharpen/molecule",
        "vitrea sharpen --half1 molecule_half1.mrc --auto --auto_mask --o Sharpen/auto",
    ),
)
