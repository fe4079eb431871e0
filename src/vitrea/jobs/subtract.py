"""``vitrea subtract``: particle images without the signal of one part of the structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.particle_inputs import chunks, readable_images
from vitrea.jobs.subtract_inputs import SubtractionInput, read_subtraction_input
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.formats.images import ParticleImages
    from vitrea.formats.mrc import StackWriter
    from vitrea.records.particles import Particles
    from vitrea.simulate.projections import Projector

_ORIGINAL = "rlnImageOriginalName"
# Whole pixels by which an image was moved before its box was cut; RELION has no label for these.
_MOVED = ("vitreaWindowShiftX", "vitreaWindowShiftY")
_ORIGINS = (("rlnOriginXAngst", "rlnOriginXPriorAngst"), ("rlnOriginYAngst", "rlnOriginYPriorAngst"))
_GREY_SCALE_PROBES = 200
_GREY_SCALE_LIMITS = (0.5, 2.0)
_CENTRE, _CTF = "Centre and box", "CTF"


class SubtractParameters(JobParameters):
    """Subtract the signal outside a mask from particle images, as relion_particle_subtract does.

    From each image the projection of map x (1 - mask) is subtracted, in the particle's orientation and place, with its
    CTF, the intensity scale of its group (rlnGroupScaleCorrection) and its norm correction (over the average, from
    the model file): the signal of an image is norm / average norm x scale x CTF x projection. What the mask holds
    stays, in the images' own grey scale. Particles of several classes use the map of their class, those of two half
    sets the map of their half where the optimiser names both.

    Writes particles_subtracted.mrcs and particles_subtracted.star into a folder; the names of the images they were
    made from are kept in rlnImageOriginalName, and --revert goes back to them with the poses found since.
    """

    input: Path | None = parameter(
        None, "Optimiser, model or data STAR file of a 3D refinement or classification.", options=["--i"]
    )
    mask: Path | None = parameter(None, "Mask of what is to stay in the images.")
    map: Path | None = parameter(
        None, "Map the particles were refined against, or a STAR file that names one for each class "
        "(rlnReferenceImage); by default that of the run.", options=["--ref"],
    )  # fmt: skip
    data: Path | None = parameter(None, "Particles to use instead of all of the run: a subset of them.")
    output: Path = parameter(Path("Subtract"), "Folder to write to.", options=["--o"])
    revert: Path | None = parameter(
        None, "Go back: particles_subtracted.star, or what became of it, whose original images are to be used again."
    )
    float16: bool = parameter(False, "Write images as 16-bit floats (MRC mode 12): half the disk space.")
    pixel_size: float = parameter(
        0.0, "Pixel size, where files give none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )
    recenter_on_mask: bool = parameter(False, "Centre the images on the mask's centre of mass.", tab=_CENTRE)
    center_x: float | None = parameter(
        None, "Centre the images on this point of the map, from its centre: x.", unit="voxels", tab=_CENTRE
    )
    center_y: float | None = parameter(None, "y of that point.", unit="voxels", tab=_CENTRE)
    center_z: float | None = parameter(None, "z of that point.", unit="voxels", tab=_CENTRE)
    new_box: int = parameter(0, "Box of the new images; 0: as it is.", unit="pixels", tab=_CENTRE, ge=0)
    ctf: bool = parameter(True, "The images have a CTF.", tab=_CTF)
    ctf_phase_flipped: bool = parameter(False, "The images' phases are flipped already.", tab=_CTF, expert=True)
    ctf_intact_first_peak: bool = parameter(
        False, "The run left amplitudes alone up to the first peak of the CTF.", tab=_CTF, expert=True
    )


def run(parameters: SubtractParameters, context: Context) -> None:
    """Subtract, or revert, and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    if parameters.revert is not None:
        if parameters.input is not None:
            raise InputError("give --i to subtract or --revert to go back, not both")
        _revert(parameters, parameters.revert, context)
        return
    if parameters.input is None:
        raise InputError("--i is required: the optimiser, model or data STAR file of a run")
    if parameters.mask is None:
        raise InputError("--mask is required: the mask of what is to stay in the images")
    _subtract(parameters, parameters.input, parameters.mask, context)


def _subtract(parameters: SubtractParameters, source: Path, mask_path: Path, context: Context) -> None:
    from vitrea.formats.images import ParticleImages
    from vitrea.formats.mrc import StackWriter
    from vitrea.formats.particle_files import relink_images, write_particles

    given = read_subtraction_input(parameters, source, context.recorder)
    mask = read_mask(mask_path, given.maps[0], given.map_path, parameters.pixel_size)
    if mask.min() >= 1.0:
        raise InputError(f"{mask_path} is 1 everywhere: nothing lies outside it that could be subtracted")
    images = ParticleImages(given.particles)
    images.check(context.recorder)
    size = given.maps[0].voxels.shape[0]
    if images.box_size != size:
        raise InputError(
            f"{given.particles.source}: the images have a box of {images.box_size} pixels, but {given.map_path} one "
            f"of {size}: the map must be the one the particles were refined against"
        )
    if parameters.new_box > size:
        raise InputError(f"--new_box {parameters.new_box} exceeds the images' box of {size} pixels")
    centre = _centre(parameters, mask, given.maps[0].voxel_size)
    particles = relink_images(given.particles, parameters.output)
    star, stack = (parameters.output / f"particles_subtracted.{suffix}" for suffix in ("star", "mrcs"))
    make_folder(star)
    work = _Subtraction(parameters, given, images, mask, centre, context)
    with StackWriter(stack, images.pixel_size, 12 if parameters.float16 else 2) as writer:
        work.write(writer)
    write_particles(star, work.table(particles, stack), comment=context.command)
    work.report(star)


def _centre(parameters: SubtractParameters, mask: NDArray[np.float32], voxel_size: float) -> NDArray[np.float64] | None:
    """Return the point of the map (Å from its centre) the images are to be centred on, if any."""
    given = (parameters.center_x, parameters.center_y, parameters.center_z)
    if parameters.recenter_on_mask:
        if any(value is not None for value in given):
            raise InputError("give --recenter_on_mask or --center_x, --center_y and --center_z, not both")
        axis = np.arange(len(mask)) - len(mask) // 2
        sums = [mask.sum(axis=other, dtype=np.float64) for other in ((0, 1), (0, 2), (1, 2))]
        return np.array([(line * axis).sum() / line.sum() for line in sums]) * voxel_size
    if all(value is None for value in given):
        return None
    point = [value for value in given if value is not None]
    if len(point) < 3:
        raise InputError("--center_x, --center_y and --center_z go together")
    if max(map(abs, point)) > len(mask) / 2:
        raise InputError(f"--center_x, --center_y, --center_z must lie within {len(mask) // 2} voxels of the centre")
    return np.array(point) * voxel_size


class _Subtraction:
    """One pass over all particles, map by map, so that one transform is held at a time."""

    def __init__(
        self,
        parameters: SubtractParameters,
        given: SubtractionInput,
        images: ParticleImages,
        mask: NDArray[np.float32],
        centre: NDArray[np.float64] | None,
        context: Context,
    ) -> None:
        from vitrea.simulate.subtraction import projected_point

        self.given, self.images, self.mask, self.recorder = given, images, mask, context.recorder
        self.box = parameters.new_box or images.box_size
        self.source = given.particles.source
        self.moved = np.zeros((len(given.particles), 2), dtype=np.int64)
        if centre is not None:
            self.moved = -np.rint(projected_point(given.particles, centre) / images.pixel_size).astype(np.int64)
            turned = projected_point(given.particles, centre) + given.particles.shifts
            self.origins = given.particles.shifts - turned - self.moved * images.pixel_size
        else:
            self.origins = given.particles.shifts
        self.position = np.full(len(given.particles), -1, dtype=np.int64)
        self.power = np.zeros(2)
        self.grey = np.zeros(2)

    def write(self, writer: StackWriter) -> None:
        """Subtract and append all images."""
        import torch

        from vitrea.simulate.projections import Projector

        self.recorder.stage("Subtracting", len(self.position), "images")
        for number, density in enumerate(self.given.maps):
            rows = np.flatnonzero(self.given.reference == number)
            voxels = torch.from_numpy(density.voxels)
            self._check_grey_scale(Projector(voxels, self.images.pixel_size), rows)
            projector = Projector(voxels * (1.0 - torch.from_numpy(self.mask)), self.images.pixel_size)
            for part in chunks(len(rows), self.images.box_size):
                self._append(writer, projector, rows[part])
                self.recorder.advance(len(part))
        if not writer.count:
            raise InputError(f"{self.source}: none of the images can be used")

    def _append(self, writer: StackWriter, projector: Projector, rows: NDArray[np.int64]) -> None:
        import torch

        from vitrea.simulate.subtraction import cut_out, signal_images

        pixels = self.images.load(rows)
        good = readable_images(pixels, self.images.names[rows], self.recorder)
        rows, before = rows[good], torch.from_numpy(pixels[good])
        if not len(rows):
            return
        given = self.given
        after = before - signal_images(projector, given.particles.rows(rows), given.factors[rows], given.imaging)
        self.power += [float(before.double().square().sum()), float(after.double().square().sum())]
        self.position[rows] = writer.count + np.arange(len(rows))
        writer.append(cut_out(after, self.moved[rows], self.box).numpy())

    def _check_grey_scale(self, projector: Projector, rows: NDArray[np.int64]) -> None:
        """Add up by how much some images exceed the projections of the whole map."""
        import torch

        from vitrea.simulate.subtraction import signal_images

        given = self.given
        some = rows[np.linspace(0, len(rows) - 1, min(_GREY_SCALE_PROBES, len(rows))).astype(int)]
        for part in chunks(len(some), self.images.box_size):
            probe = some[part]
            signal = signal_images(projector, given.particles.rows(probe), given.factors[probe], given.imaging).double()
            images = torch.from_numpy(np.nan_to_num(self.images.load(probe))).double()
            self.grey += [float((images * signal).sum()), float(signal.square().sum())]

    def table(self, particles: Particles, stack: Path) -> Particles:
        """Return the particles with their new images and origins."""
        from vitrea.formats.image_names import join_image_name
        from vitrea.formats.star_values import text_column

        table = particles.table
        names = text_column([join_image_name(str(stack), int(place)) for place in self.position])
        columns = {"rlnImageName": names}
        if _ORIGINAL not in table:
            columns[_ORIGINAL] = table["rlnImageName"]
        for axis, labels in enumerate(_ORIGINS):
            columns[labels[0]] = self.origins[:, axis]
            if labels[1] in table:
                columns[labels[1]] = table.numbers(labels[1]) + self.origins[:, axis] - particles.shifts[:, axis]
        if self.moved.any() or _MOVED[0] in table:
            for axis, label in enumerate(_MOVED):
                columns[label] = table.numbers(label, 0.0).astype(np.int64) + self.moved[:, axis]
        optics = tuple(replace(group, image_size=self.box) for group in particles.optics)
        return replace(particles, optics=optics).with_columns(columns).rows(self.position >= 0)

    def report(self, star: Path) -> None:
        """Tell what was done, and what looks wrong."""
        grey = self.grey[0] / max(self.grey[1], 1e-30)
        removed = 1.0 - self.power[1] / max(self.power[0], 1e-30)
        if not _GREY_SCALE_LIMITS[0] <= grey <= _GREY_SCALE_LIMITS[1]:
            self.recorder.warn(
                f"the images hold {grey:.2f} times the signal of the map: its grey scale or the poses are not those of "
                "the refinement of these particles, and the subtraction is wrong by as much"
            )
        count = int((self.position >= 0).sum())
        self.recorder.event(
            "text",
            text=f"{star}: {count} particles of {self.box} pixels; {100 * removed:.2f}% of the images' power removed; "
            f"they hold {grey:.3f} times the signal of the whole map",
        )


def _revert(parameters: SubtractParameters, path: Path, context: Context) -> None:
    """Give particles their original images back, with origins that fit those."""
    from vitrea.formats.image_names import find_file, split_image_name
    from vitrea.formats.mrc import read_header
    from vitrea.formats.particle_files import read_particles, relink_images, write_particles
    from vitrea.records.particles import SHIFT_LABELS

    particles = read_particles(path, require_ctf=False, require_images=False, pixel_size=parameters.pixel_size or None)
    table = particles.table
    if _ORIGINAL not in table:
        raise InputError(f"{path} lacks the column {_ORIGINAL}: its images do not come from a subtraction")
    columns = {"rlnImageName": table[_ORIGINAL]}
    if all(label in table for label in _MOVED):
        pixel_sizes = np.array([group.pixel_size for group in particles.optics])[particles.optics_index]
        for axis, label in enumerate(_MOVED):
            back = table.numbers(label) * pixel_sizes
            columns[SHIFT_LABELS[axis]] = particles.shifts[:, axis] + back
            prior = _ORIGINS[axis][1]
            if prior in table:
                columns[prior] = table.numbers(prior) + back
    reverted = replace(particles, table=table.without(_ORIGINAL, *_MOVED)).with_columns(columns)
    reverted = relink_images(reverted, parameters.output)
    optics = []
    for number, group in enumerate(reverted.optics):
        rows = np.flatnonzero(reverted.optics_index == number)
        if len(rows):
            file, _ = split_image_name(reverted.table["rlnImageName"][rows[0]])
            group = replace(group, image_size=read_header(find_file(file, parameters.output)).shape[2])
        optics.append(group)
    star = parameters.output / "original.star"
    make_folder(star)
    write_particles(star, replace(reverted, optics=tuple(optics)), comment=context.command)
    context.recorder.event("text", text=f"{star}: {len(reverted)} particles with their original images")


JOB = Job(
    name="subtract",
    summary="Subtract the signal outside a mask from particle images.",
    parameters=SubtractParameters,
    run=run,
    ignored_options={"--j=": "all threads are used"},
)
