"""What ``vitrea sharpen`` asks: the settings of cisTEM's panel "Sharpen 3D", and an automatic choice of them."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import JobParameters, parameter

_SHARPEN, _WEIGHTS, _MASK, _FINISH = "Sharpen", "FSC", "Mask", "Finish"


class SharpenParameters(JobParameters):
    """Sharpen a map by B-factors, spectral flattening and figures of merit, as cisTEM's sharpen_map does.

    Up to the limit (--limit) amplitudes are multiplied by exp(-B/4d²) with the first B-factor; beyond it the spectrum
    is made flat, and a second B-factor may follow. With an FSC (--fsc, or half maps) components are weighted by their
    figure of merit, SSNR / (1 + SSNR). A cosine edge ends it all at --cutoff. With --auto B-factor, flattening and
    cut-off are chosen by the FSC and the amplitudes of the signal, and the report shows why; what is given beside
    --auto stands.

    Writes the sharpened map (.mrc), with a mask also what is inside it (_masked.mrc), amplitudes of each shell (.star),
    pictures of amplitudes, slices and projections (.png), and a report (_report.html).
    """

    input: Path | None = parameter(
        None, "Map to sharpen; by default the mean of the half maps.", options=["--i"], cistem="Input Volume",
        positional=True,
    )  # fmt: skip
    output: Path = parameter(Path("sharpen"), "Start of the names of the output files.", options=["--o"])
    half1: Path | None = parameter(None, "First unfiltered half map, to measure the FSC.", options=["--halfmap1"])
    half2: Path | None = parameter(
        None, "Second half map; by default the first one's name with half1 replaced by half2.", options=["--halfmap2"]
    )
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the map's header.", unit="Å", options=["--angpix"], cistem="Pixel size", ge=0
    )
    auto: bool = parameter(
        False, "Choose B-factor, flattening and cut-off by FSC and amplitudes.", tab=_SHARPEN
    )  # fmt: skip
    bfactor: float = parameter(
        -90.0, "B-factor up to the limit; negative sharpens.", unit="Å²", options=["--bfactor_low"],
        cistem="Pre-Cut-Off B-Factor", tab=_SHARPEN,
    )  # fmt: skip
    bfactor_high: float = parameter(
        0.0, "B-factor beyond the limit; cisTEM suggests 0 to 25 after flattening.", unit="Å²",
        cistem="Post-Cut-Off B-Factor", tab=_SHARPEN,
    )  # fmt: skip
    limit: float = parameter(
        10.0, "Resolution from which the spectrum is flattened and the second B-factor acts; 0: nowhere.", unit="Å",
        options=["--flatten_from"], cistem="Flatten From Res.", tab=_SHARPEN, ge=0,
    )  # fmt: skip
    flatten: bool = parameter(True, "Flatten the spectrum beyond the limit.", tab=_SHARPEN)
    flatten_signal: bool = parameter(
        False, "Flatten the amplitudes of the signal, which the FSC tells, not those of signal and noise.",
        tab=_SHARPEN, expert=True,
    )  # fmt: skip
    protein: bool = parameter(
        False, "Bring amplitudes beyond the limit to those that proteins have, instead of making them equal.",
        tab=_SHARPEN,
    )  # fmt: skip
    cutoff: float = parameter(
        0.0, "Nothing finer is left; 0: where the FSC falls below 0.143, or Nyquist without an FSC.", unit="Å",
        options=["--resolution_limit"], cistem="Resolution Cut-Off", tab=_SHARPEN, ge=0,
    )  # fmt: skip
    filter_edge: float = parameter(
        20.0, "Edge of the cut-off: a cosine that is 1/this wide (in 1/Å).", unit="Å", cistem="Filter Edge-Width",
        tab=_SHARPEN, ge=0,
    )  # fmt: skip
    fsc: Path | None = parameter(
        None, "FSC of the half maps: STAR of postprocess or a refinement, cisTEM's or FREALIGN's statistics, EMDB XML.",
        options=["--statistics"], cistem="Input reconstruction statistics", tab=_WEIGHTS,
    )  # fmt: skip
    fsc_column: str = parameter(
        "", "Which of its curves, e.g. rlnFourierShellCorrelationUnmaskedMaps; by default the corrected one, Part_FSC.",
        tab=_WEIGHTS, expert=True,
    )  # fmt: skip
    fom_weighting: bool = parameter(
        True, "Weight by the figure of merit where there is an FSC.", cistem="Use FOM Weighting?", tab=_WEIGHTS
    )
    ssnr_scale: float = parameter(
        1.0, "Factor on the signal-to-noise ratio in that weight; above 1 for the best parts of an uneven map.",
        cistem="SSNR Scale Factor", tab=_WEIGHTS, ge=0.1, le=10,
    )  # fmt: skip
    mask: Path | None = parameter(
        None, "Mask, 0 to 1, inside which amplitudes and FSC are measured.", cistem="Supply a Mask?", tab=_MASK
    )
    auto_mask: bool = parameter(
        False, "Make that mask from the map, or the half maps.", cistem="Use Auto-Masking?", tab=_MASK
    )
    inner_radius: float = parameter(
        0.0, "Without a mask: inner radius of a spherical one.", unit="Å", options=["--inner_mask_radius"],
        cistem="Inner Mask Radius", tab=_MASK, ge=0,
    )  # fmt: skip
    outer_radius: float = parameter(
        0.0, "Without a mask: outer radius of a spherical one; 0: half the box.", unit="Å",
        options=["--outer_mask_radius"], cistem="Outer Mask Radius", tab=_MASK, ge=0,
    )  # fmt: skip
    invert_hand: bool = parameter(
        False, "Write the mirror image.", cistem="Invert Handedness?", tab=_FINISH
    )  # fmt: skip
    correct_gridding: bool = parameter(
        False,
        "Undo the fall-off towards the edges that interpolation in an unpadded Fourier grid leaves; maps of Vitrea, "
        "RELION and cryoSPARC are corrected already.",
        cistem="Correct Gridding Error?", tab=_FINISH,
    )  # fmt: skip
    gridding_padding: float = parameter(
        1.0, "How many times finer that grid was than the box needs.", tab=_FINISH, expert=True, ge=1
    )
    normalise: float = parameter(
        0.0, "Bring the map to mean 0 and this standard deviation, as cisTEM does with 0.03; 0: leave its grey values.",
        tab=_FINISH, ge=0,
    )  # fmt: skip
