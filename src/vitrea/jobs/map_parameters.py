"""What ``vitrea map`` asks: relion_image_handler's options under their names, in the order in which they act."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrea.jobs.base import JobParameters, parameter

_MEASURE, _AVERAGE, _VALUES, _FILTERS = "Measure", "Movies and stacks", "Grey values", "Filters"
_PLACE, _BOX, _PICTURE = "Place and hand", "Pixel and box", "Pictures"


class MapFiles(JobParameters):
    """What is read and written."""

    input: str = parameter(
        ..., "Map, image, stack, one image of a stack (3@stack.mrcs), or STAR file.", options=["--i"], positional=True
    )
    output: str = parameter(
        "",
        "File to write; its ending tells the format. For a STAR file: a .star file, or a word to put into the names.",
        options=["--o"],
        positional=True,
    )
    kind: Literal["auto", "map", "stack"] = parameter(
        "auto", "What the file holds, where its header and ending do not tell.", expert=True
    )
    pixel_size: float = parameter(
        0.0, "Pixel size of the input; 0: from its header.", options=["--angpix"], unit="Å", ge=0
    )
    force_header_angpix: float = parameter(
        0.0, "Pixel size to write into the header, whatever it is.", unit="Å", expert=True, ge=0
    )
    float16: bool = parameter(False, "Write stacks as 16-bit floats.", options=["--write_float16"], expert=True)


class MapMeasurements(JobParameters):
    """What is measured; one of these at a time, of the images as they are."""

    stats: bool = parameter(False, "Print size, mean, standard deviation, minimum and maximum of each.", tab=_MEASURE)
    com: bool = parameter(False, "Print the centre of mass of the positive values of each.", tab=_MEASURE)
    fsc: Path | None = parameter(
        None,
        "Fourier shell correlation with this map, or ring correlation with this image, or with a stack image by image "
        "(the mean curve, and where that of each image falls), as STAR, or as a picture (--o x.png).",
        tab=_MEASURE,
    )
    spectrum: bool = parameter(
        False,
        "Power, amplitudes and Guinier plot of each shell (of a stack: mean), as STAR, or as a picture (--o x.png).",
        options=["--power"],
        tab=_MEASURE,
    )


class MapAverages(JobParameters):
    """What becomes of the images of a stack before all else."""

    average: bool = parameter(False, "Average all images.", tab=_AVERAGE)
    avg_bin: int = parameter(0, "Sum every so many frames.", tab=_AVERAGE, ge=0)
    avg_first: int = parameter(0, "Sum frames from this one on, counting from 1.", tab=_AVERAGE, ge=0)
    avg_last: int = parameter(0, "Sum frames up to this one.", tab=_AVERAGE, ge=0)


class MapValues(JobParameters):
    """Grey values."""

    flip_xy: bool = parameter(False, "Swap x and y of images.", options=["--flipXY"], tab=_PLACE)
    flip_mxy: bool = parameter(False, "Swap x and -y of images.", options=["--flipmXY"], tab=_PLACE)
    remove_nan: bool = parameter(False, "Replace values that are no numbers, or infinite.", tab=_VALUES)
    replace_nan: float = parameter(0.0, "What they are replaced by.", tab=_VALUES)
    multiply_constant: float = parameter(1.0, "Multiply by this.", tab=_VALUES)
    divide_constant: float = parameter(1.0, "Divide by this.", tab=_VALUES)
    add_constant: float = parameter(0.0, "Add this.", tab=_VALUES)
    subtract_constant: float = parameter(0.0, "Subtract this.", tab=_VALUES)
    multiply: Path | None = parameter(None, "Multiply by this map or image, or stack, image by image.", tab=_VALUES)
    divide: Path | None = parameter(None, "Divide by it; 0 where it is below 1e-10.", tab=_VALUES)
    add: Path | None = parameter(None, "Add it.", tab=_VALUES)
    subtract: Path | None = parameter(None, "Subtract it.", tab=_VALUES)
    optimise_scale_subtract: bool = parameter(False, "Scale what is subtracted to fit, by least squares.", tab=_VALUES)
    threshold_above: float | None = parameter(None, "Set what is above this value to it; done last.", tab=_VALUES)
    threshold_below: float | None = parameter(None, "Set what is below this value to it; done last.", tab=_VALUES)


class MapFilters(JobParameters):
    """Filters."""

    adjust_power: Path | None = parameter(
        None, "Give each shell the mean amplitude of this map or image.", tab=_FILTERS
    )
    phase_randomise: float = parameter(
        0.0, "Make the phases of a map random beyond this resolution.", options=["--phase_randomise"], unit="Å",
        tab=_FILTERS, ge=0,
    )  # fmt: skip
    bfactor: float = parameter(0.0, "Apply a B-factor; negative sharpens.", unit="Å²", tab=_FILTERS)
    lowpass: float = parameter(0.0, "Low-pass filter at this resolution.", unit="Å", tab=_FILTERS, ge=0)
    highpass: float = parameter(0.0, "High-pass filter at this resolution.", unit="Å", tab=_FILTERS, ge=0)
    filter_edge_width: float = parameter(2.0, "Width of the edge of these filters.", unit="shells", tab=_FILTERS, ge=0)


class MapPlacement(JobParameters):
    """Place, pixel, box."""

    flip_x: bool = parameter(False, "Reverse x.", options=["--flipX"], tab=_PLACE)
    flip_y: bool = parameter(False, "Reverse y.", options=["--flipY"], tab=_PLACE)
    flip_z: bool = parameter(False, "Reverse z.", options=["--flipZ"], tab=_PLACE)
    invert_hand: bool = parameter(False, "Change the hand: mirror x about the centre.", tab=_PLACE)
    shift_com: bool = parameter(False, "Shift the centre of mass of the positive values to the centre.", tab=_PLACE)
    shift_x: float = parameter(0.0, "Shift in x; what comes in from outside is 0.", unit="pixels", tab=_PLACE)
    shift_y: float = parameter(0.0, "Shift in y.", unit="pixels", tab=_PLACE)
    shift_z: float = parameter(0.0, "Shift in z, of maps.", unit="pixels", tab=_PLACE)
    linear_shift: bool = parameter(
        False,
        "Shift by linear interpolation, as RELION does, which blurs, and not band-limited.",
        tab=_PLACE,
        expert=True,
    )
    rescale_angpix: float = parameter(
        0.0, "New pixel size; the box becomes the nearest even one.", unit="Å", tab=_BOX, ge=0
    )
    new_box: int = parameter(0, "New box, odd or even; new pixels are 0.", unit="pixels", tab=_BOX, ge=0)
    symmetry: str = parameter("", "Average a map over this point group.", options=["--sym"], tab=_BOX)


class MapPictures(JobParameters):
    """Pictures."""

    png: bool = parameter(
        False,
        "Write a picture of the images, or of the slices of a map, side by side; --o x.png does the same.",
        tab=_PICTURE,
    )
    columns: int = parameter(0, "Images in a row; 0: as many as make the picture square.", tab=_PICTURE, ge=0)
    most: int = parameter(100, "Images shown at most; of more, an even choice.", tab=_PICTURE, ge=1)
    sigma_contrast: float | None = parameter(
        None,
        "Standard deviations about the mean from black to white; 0: from minimum to maximum; by default 3 for images, "
        "0 for maps.",
        tab=_PICTURE,
        ge=0,
    )
    black: float | None = parameter(None, "Value that is black.", tab=_PICTURE)
    white: float | None = parameter(None, "Value that is white.", tab=_PICTURE)


class MapParameters(MapPictures, MapPlacement, MapFilters, MapValues, MapAverages, MapMeasurements, MapFiles):
    """Change or measure maps, images, stacks, and all images of a STAR file, as relion_image_handler.

    All that is asked for is done, in this order whatever that of the options: frames are summed or averaged; x and y
    swapped; NaN removed; constants (multiply and divide, then add and subtract); other images (multiply, divide, add,
    subtract); power adjusted; phases randomised; B-factor, low-pass, high-pass; flips; hand; shift; new pixel size; new
    box; symmetry; thresholds. It is RELION's order; RELION does only the first of the constants and images given.

    A STAR file of particles or micrographs: with --o new.star, particles go to new.mrcs, micrographs into a folder
    new; with --o word, each file is written beside the old one, as name_word.mrc, and the list as <input>_word.star, as
    RELION does. Of a list of movies frames are summed, movie by movie; with --o x.png images of a list are drawn.
    """
