"""Between cryoSPARC's data sets and RELION's particles.

A pose is the vector of the turn (its length the angle in radians) whose matrix is the transpose of RELION's. Shifts
have RELION's sign and are in pixels of ``alignments3D/psize_A``. Classes and half sets count from 0 there, from 1 here.
Places in micrographs are fractions of ``location/micrograph_shape`` [y, x], counted from the first line of the file, as
RELION counts: so cryoSPARC's makers put RELION's coordinates into data sets (crYOLO example of cryosparc-tools), and
so they draw them. pyem counts from the last line unless told otherwise (``csparc2star.py --inverty``). Shifts are taken
off places to centre particles, as RELION's (README of cryosparc-tools). That the angle of a 2D alignment has RELION's
sign rests on pyem alone; helicon has the opposite.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from vitrea.formats.image_names import join_image_name
from vitrea.formats.optics_groups import GROUP, IMAGE_SIZE, PIXEL_SIZE
from vitrea.formats.star_values import text_column
from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Column, Table
from vitrea.tables.conversion import (
    BEAM_TILT,
    CONTRAST,
    CS,
    IMAGE_NAME,
    MICROGRAPH,
    VOLTAGE,
    Converted,
    GivenImages,
    find_lost,
    optics_columns,
    renamed,
    split_names,
)

_SAME = {
    "ctf/accel_kv": VOLTAGE, "ctf/cs_mm": CS, "ctf/amp_contrast": CONTRAST, "ctf/df1_A": "rlnDefocusU",
    "ctf/df2_A": "rlnDefocusV", "ctf/bfactor": "rlnCtfBfactor", "ctf/scale": "rlnCtfScalefactor",
    "ctf/ctf_fit_to_A": "rlnCtfMaxResolution", "ctf/cross_corr_ctffind4": "rlnCtfFigureOfMerit",
    "blob/psize_A": PIXEL_SIZE, "blob/shape/0": IMAGE_SIZE, "location/micrograph_path": MICROGRAPH,
    "pick_stats/ncc_score": "rlnAutopickFigureOfMerit",
}  # fmt: skip
_DEGREES = {"ctf/df_angle_rad": "rlnDefocusAngle", "ctf/phase_shift_rad": "rlnPhaseShift"}
_FROM_ZERO = {"class": "rlnClassNumber", "split": "rlnRandomSubset"}
_MILLIMETRE = 1e7  # in Å
_CENTRE = ("location/center_x_frac", "location/center_y_frac")
_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
_SHAPE = ("location/micrograph_shape/1", "location/micrograph_shape/0")  # x, y
_TILT = ("ctf/tilt_A/0", "ctf/tilt_A/1")
_NEEDS_SHAPE = "cryoSPARC has places as fractions of a micrograph, whose size is not known here"


def rows_of_cryosparc(dataset: Table, given: GivenImages) -> Converted:
    """Turn a data set into rows under RELION's labels.

    Parameters
    ----------
    dataset : Table
        As `read_cs` gives it.
    given : GivenImages

    Returns
    -------
    Converted

    Raises
    ------
    ValueError
        If it is no set of particle images.
    """
    if not {"blob/path", "blob/idx"} <= set(dataset):
        raise ValueError("it has no particle images (blob/path, blob/idx)")
    paths = [path.removeprefix(">") for path in dataset["blob/path"].tolist()]
    indices = dataset["blob/idx"].tolist()
    columns: dict[str, Column] = {
        IMAGE_NAME: text_column([join_image_name(path, index) for path, index in zip(paths, indices, strict=True)])
    }
    columns |= renamed(dataset, _SAME)
    if MICROGRAPH in columns:
        columns[MICROGRAPH] = text_column([path.removeprefix(">") for path in columns[MICROGRAPH].tolist()])
    columns |= {new: np.degrees(dataset.numbers(old)) for old, new in _DEGREES.items() if old in dataset}
    used = {"blob/path", "blob/idx", *_SAME, *_DEGREES, "blob/shape/1"}
    used |= _add_poses(columns, dataset, given) | _add_tilt(columns, dataset) | _add_places(columns, dataset)
    columns |= {label: column for label, column in dataset.columns.items() if label not in used}
    return Converted(given.fill(Table(columns)))


def _add_poses(columns: dict[str, Column], dataset: Table, given: GivenImages) -> set[str]:
    """Add angles, shifts, class and half set; return the fields they are taken from."""
    prefix = next((name for name in ("alignments3D", "alignments2D") if f"{name}/shift/0" in dataset), "")
    if not prefix:
        return set()
    used = {f"{prefix}/shift/0", f"{prefix}/shift/1", f"{prefix}/psize_A"}
    size_field = f"{prefix}/psize_A" if f"{prefix}/psize_A" in dataset else "blob/psize_A"
    sizes = dataset.numbers(size_field, given.pixel_size or 1.0)
    columns |= {label: dataset.numbers(f"{prefix}/shift/{axis}") * sizes for axis, label in enumerate(SHIFT_LABELS)}
    if f"{prefix}/pose/2" in dataset:
        vectors = np.stack([dataset.numbers(f"{prefix}/pose/{axis}") for axis in range(3)], axis=1)
        matrices = Rotation.from_rotvec(vectors).as_matrix().transpose(0, 2, 1)
        columns |= dict(zip(EULER_LABELS, matrix_to_euler(matrices).T, strict=True))
        used |= {f"{prefix}/pose/{axis}" for axis in range(3)}
    elif f"{prefix}/pose" in dataset:
        columns["rlnAnglePsi"] = np.degrees(dataset.numbers(f"{prefix}/pose"))
        used.add(f"{prefix}/pose")
    for name, label in _FROM_ZERO.items():
        if f"{prefix}/{name}" in dataset:
            columns[label] = dataset[f"{prefix}/{name}"].astype(np.int64) + 1
            used.add(f"{prefix}/{name}")
    return used


def _add_tilt(columns: dict[str, Column], dataset: Table) -> set[str]:
    """Add the beam tilt in mrad: cryoSPARC has its sine times Cs, in Å."""
    if not {*_TILT, "ctf/cs_mm"} <= set(dataset) or not (dataset["ctf/cs_mm"] > 0).all():
        return set()
    cs = dataset.numbers("ctf/cs_mm") * _MILLIMETRE
    tilts = [1e3 * np.arcsin(dataset.numbers(field) / cs) for field in _TILT]
    if any(tilt.any() for tilt in tilts):
        columns |= dict(zip(BEAM_TILT, tilts, strict=True))
    return set(_TILT)


def _add_places(columns: dict[str, Column], dataset: Table) -> set[str]:
    """Add coordinates in pixels of the micrograph; its shape stays, for the way back."""
    if not {*_CENTRE, *_SHAPE} <= set(dataset):
        return set()
    columns |= {label: dataset.numbers(place) * dataset.numbers(shape)
                for label, place, shape in zip(_COORDINATES, _CENTRE, _SHAPE, strict=True)}  # fmt: skip
    return set(_CENTRE)


def cryosparc_of_particles(particles: Particles) -> Converted:
    """Turn particles into a data set; places in micrographs only where their shape is known from a data set before.

    Raises
    ------
    ValueError
        If a particle has no image.
    """
    table, optics = particles.table, optics_columns(particles)
    if IMAGE_NAME not in table:
        raise ValueError("there are no image names, which a cryoSPARC data set needs")
    files, indices = split_names(table[IMAGE_NAME])
    uids = table["uid"] if "uid" in table else _uids(table[IMAGE_NAME])
    columns: dict[str, Column] = {"uid": uids, "blob/path": text_column(files), "blob/idx": indices}
    columns |= {f"blob/shape/{axis}": optics[IMAGE_SIZE] for axis in range(2)}
    columns |= {"blob/psize_A": optics[PIXEL_SIZE], "blob/sign": np.ones(len(table)), "ctf/accel_kv": optics[VOLTAGE],
                "ctf/cs_mm": optics[CS], "ctf/amp_contrast": optics[CONTRAST],
                "ctf/exp_group_id": table[GROUP]}  # fmt: skip
    columns |= {old: table[new] for old, new in _SAME.items() if new in table}
    columns |= {old: np.radians(table.numbers(new)) for old, new in _DEGREES.items() if new in table}
    if any(optics[label].any() for label in BEAM_TILT):
        columns |= {field: np.sin(1e-3 * optics[label]) * optics[CS] * _MILLIMETRE
                    for field, label in zip(_TILT, BEAM_TILT, strict=True)}  # fmt: skip
    carried = {*_SAME.values(), *_DEGREES.values(), IMAGE_NAME, GROUP, PIXEL_SIZE, *BEAM_TILT}
    carried |= _put_poses(columns, table, optics[PIXEL_SIZE]) | _put_places(columns, table)
    own = {label: column for label, column in table.columns.items() if "/" in label or label == "uid"}
    columns |= own
    lost = [
        replace(one, reason=_NEEDS_SHAPE) if one.column in _COORDINATES else one
        for one in find_lost(particles, carried | set(own), "cryoSPARC")
    ]
    return Converted(Table(columns), tuple(lost))


def _put_poses(columns: dict[str, Column], table: Table, sizes: Column) -> set[str]:
    """Put angles, shifts, class and half set into fields; return their labels."""
    labels = {*EULER_LABELS, *SHIFT_LABELS}
    if not labels & set(table):
        return set()
    eulers = np.stack([table.numbers(label, 0.0) for label in EULER_LABELS], axis=1)
    vectors = Rotation.from_matrix(euler_to_matrix(eulers).transpose(0, 2, 1)).as_rotvec()
    prefix = "alignments3D"
    columns |= {f"{prefix}/pose/{axis}": vectors[:, axis] for axis in range(3)}
    columns |= {f"{prefix}/shift/{axis}": table.numbers(label, 0.0) / sizes for axis, label in enumerate(SHIFT_LABELS)}
    columns[f"{prefix}/psize_A"] = sizes
    for name, label in _FROM_ZERO.items():
        if label in table:
            columns[f"{prefix}/{name}"] = np.maximum(table[label].astype(np.int64) - 1, 0)
            labels.add(label)
    return labels


def _put_places(columns: dict[str, Column], table: Table) -> set[str]:
    if not {*_COORDINATES, *_SHAPE} <= set(table):
        return set()
    columns |= {field: table.numbers(label) / table.numbers(shape)
                for field, label, shape in zip(_CENTRE, _COORDINATES, _SHAPE, strict=True)}  # fmt: skip
    return set(_COORDINATES)


def upside_down(dataset: Table, *, poses: bool = False) -> Table:
    """Return a data set as it is for micrographs whose lines run in reverse order; done twice it is as before.

    Parameters
    ----------
    dataset : Table
        As `read_cs` gives it.
    poses : bool
        Besides the places, what is seen of the particles: shifts, orientations, astigmatism and beam tilt. For
        particles that are extracted anew from such micrographs. The map stays as it is, its hand included: a
        projection in the opposite sense along the beam is the same.
    """
    new: dict[str, Column] = {_CENTRE[1]: 1.0 - dataset.numbers(_CENTRE[1])} if _CENTRE[1] in dataset else {}
    if not poses:
        return dataset.with_columns(new)
    mirrored = ("ctf/df_angle_rad", _TILT[1], "alignments2D/pose", "alignments2D/shift/1", "alignments3D/shift/1")
    new |= {field: -dataset.numbers(field) for field in mirrored if field in dataset}
    fields = [f"alignments3D/pose/{axis}" for axis in range(3)]
    if set(fields) <= set(dataset):
        turns = Rotation.from_rotvec(np.stack([dataset.numbers(field) for field in fields], axis=1))
        about_x = Rotation.from_rotvec([np.pi, 0.0, 0.0])
        new |= dict(zip(fields, (turns * about_x).as_rotvec().T, strict=True))
    return dataset.with_columns(new)


def _uids(names: Column) -> Column:
    """Return 64-bit numbers made of the image names: the same each time, different for different images."""
    digests = [hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest() for name in names.tolist()]
    return text_column([str(int.from_bytes(digest, "little")) for digest in digests])


def with_passthrough(dataset: Table, passthrough: Table) -> Table:
    """Add the fields that only the pass-through file of a job has, by uid.

    Raises
    ------
    ValueError
        If one of the files has no uid, or an image is not in the pass-through file.
    """
    if "uid" not in dataset or "uid" not in passthrough:
        raise ValueError("both files must have a uid for each particle")
    place = {uid: row for row, uid in enumerate(passthrough["uid"].astype(str).tolist())}
    wanted = dataset["uid"].astype(str).tolist()
    missing = sum(uid not in place for uid in wanted)
    if missing:
        raise ValueError(f"{missing} of {len(wanted)} particles are not in the pass-through file")
    rows = np.array([place[uid] for uid in wanted], dtype=np.int64)
    return dataset.with_columns({name: passthrough[name][rows] for name in passthrough if name not in dataset})
