"""``vitrea validate tilt-pairs``: orientations and hand of a map, tested by images on a tilted stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import read_posed_particles
from vitrea.records.errors import InputError
from vitrea.records.particles import Particles
from vitrea.records.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.formats.star import Block
    from vitrea.maps.tilt_pairs import Hand, TiltCluster

# Of a good map of a large particle 60% of the pairs and more cluster (Henderson et al. 2011).
_GOOD = 0.6
_STAGE, _CLUSTER = "Stage", "Cluster"

_READING = (
    "Each point is a pair of images of one particle: outwards how far the stage was turned between them, around the "
    "direction of the axis it was turned about, both read from the orientations that were found for the two images "
    "independently. The stage turned all particles alike: the points of right orientations gather, within their "
    "errors, in one place; others are spread over the sphere. A map of the wrong hand makes them gather opposite, at "
    "the same tilt about the opposite axis.\n\n"
    "By chance is what gathers where images are paired wrongly: more where views are preferred or symmetry is high."
)


class ValidateTiltPairsParameters(JobParameters):
    """Test orientations and the hand of a map by pairs of images of the same particles, untilted and tilted.

    Takes two particle files whose orientations were refined against one map, independently (Rosenthal & Henderson
    2003). Finds where the turns between them gather (the tilt-pair parameter plot, Henderson et al. 2011): which part
    of the pairs, at what tilt and about which axis. Pairs are rows in the same place, or share the value of a column.

    The hand is told where the axis of the stage is given. Sense: the stage turns the specimen by --tilt, right-handed
    about an axis that points --axis degrees from x towards y in the images, z being the direction that angles of 0
    look along. A microscope whose sense is known (a map of known hand) tells that of any other map.

    Writes into a folder: tilt_pairs.star (figures, and the turn of each pair), tilt_pairs.png and report.html.
    """

    untilted: Path = parameter(..., "STAR file with refined particles of the first images.", options=["--i"])
    tilted: Path = parameter(..., "STAR file with refined particles of the second ones.", options=["--i2"])
    output: Path = parameter(Path("Validate/tilt_pairs"), "Folder to write to.", options=["--o"])
    symmetry: str = parameter("C1", "Point group of the map: C4, D2, T, O, I ...", options=["--sym"], cistem="symmetry")
    match: str = parameter("", "Column whose value the two images of a pair share; by default rows pair in order.")
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR files give none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )
    tilt: float = parameter(
        ..., "Nominal turn of the stage from the first to the second images.", unit="degrees", tab=_STAGE, ge=-90, le=90
    )
    axis: float | None = parameter(
        None, "Direction of the tilt axis in the images, from x towards y; needed for the hand.", unit="degrees",
        tab=_STAGE,
    )  # fmt: skip
    tolerance: float = parameter(
        15.0, "How far from the nominal tilt the cluster may lie.", unit="degrees", tab=_CLUSTER, ge=0, le=90
    )
    radius: float = parameter(15.0, "Radius of the cluster.", unit="degrees", tab=_CLUSTER, gt=0, le=90)
    shuffles: int = parameter(
        20, "How many times images are paired wrongly, to see what chance does.", tab=_CLUSTER, expert=True, ge=1
    )
    random_seed: int = parameter(0, "Seed of the wrong pairs.", tab=_CLUSTER, expert=True, ge=0)


@dataclass(frozen=True)
class _Outcome:
    """What the test found."""

    cluster: TiltCluster
    chance: NDArray[np.float64]
    hand: Hand | None

    @property
    def significant(self) -> bool:
        """Whether more pairs gather than in any wrong pairing."""
        return self.cluster.fraction > float(self.chance.max())


def run(parameters: ValidateTiltPairsParameters, context: Context) -> None:
    """Test and write.

    Raises
    ------
    InputError
        If a file lacks angles, or the particles of the two do not pair.
    """
    from vitrea.formats.star import write_star
    from vitrea.geometry.symmetry import canonical_name
    from vitrea.maps.tilt_pairs import chance_fractions, find_cluster, judge_hand, pair_turns

    group = canonical_name(parameters.symmetry)
    if not parameters.tilt:
        raise InputError("--tilt 0 is no tilt: give the turn of the stage between the two images, in degrees")
    first, second = _pairs(parameters)
    make_folder(parameters.output / "tilt_pairs.star")
    context.recorder.stage("tilt pairs")
    turns = pair_turns(first.eulers, second.eulers, group)
    cluster = find_cluster(turns, parameters.tilt, parameters.tolerance, parameters.radius)
    chance = chance_fractions(
        first.eulers, second.eulers, group, parameters.tilt, parameters.tolerance, parameters.radius,
        parameters.random_seed, parameters.shuffles,
    )  # fmt: skip
    hand = None if parameters.axis is None else judge_hand(cluster, parameters.tilt, parameters.axis)
    found = _Outcome(cluster, chance, hand)
    blocks: dict[str, Block] = {"general": _general(found, parameters), "pairs": _pair_table(found, first, second)}
    write_star(parameters.output / "tilt_pairs.star", blocks, comment=context.command)
    _report(found, parameters, context)
    _tell(found, context)


def _pairs(parameters: ValidateTiltPairsParameters) -> tuple[Particles, Particles]:
    """Return the particles of both files, in pairs."""
    size = parameters.pixel_size or None
    first, second = (
        read_posed_particles(path, require_ctf=False, require_images=False, pixel_size=size)
        for path in (parameters.untilted, parameters.tilted)
    )
    if parameters.match:
        return _matched(first, second, parameters)
    if len(first) != len(second):
        raise InputError(
            f"{parameters.untilted} holds {len(first)} particles, but {parameters.tilted} {len(second)}: rows must "
            "pair; or name a column that pairs share with --match"
        )
    return first, second


def _matched(
    first: Particles, second: Particles, parameters: ValidateTiltPairsParameters
) -> tuple[Particles, Particles]:
    label = parameters.match.removeprefix("_")
    rows: list[dict[str, int]] = []
    for particles, path in ((first, parameters.untilted), (second, parameters.tilted)):
        if label not in particles.table:
            raise InputError(f"{path} lacks the column {label} (--match)")
        values = [str(value) for value in particles.table[label].tolist()]
        rows.append(dict(zip(values, range(len(values)), strict=True)))
        if len(rows[-1]) < len(values):
            raise InputError(f"{path}: several particles have the same {label} (--match), so pairs are not known")
    shared = [value for value in rows[0] if value in rows[1]]
    if not shared:
        raise InputError(f"{parameters.untilted} and {parameters.tilted} share no value of {label} (--match)")
    one, other = (np.array([places[value] for value in shared]) for places in rows)
    return first.rows(one), second.rows(other)


def _general(found: _Outcome, parameters: ValidateTiltPairsParameters) -> dict[str, int | float | str]:
    cluster = found.cluster
    general: dict[str, int | float | str] = {
        "vitreaPairs": len(cluster.tilts),
        "vitreaNominalTilt": parameters.tilt,
        "vitreaClusterTilt": cluster.tilt,
        "vitreaClusterAxis": cluster.axis,
        "vitreaClusterRadius": cluster.radius,
        "vitreaClusterFraction": cluster.fraction,
        "vitreaClusterScatter": cluster.scatter,
        "vitreaTurnInPlane": cluster.turn_in_plane,
        "vitreaChanceFraction": float(found.chance.mean()),
        "vitreaChanceFractionMax": float(found.chance.max()),
    }
    if parameters.axis is not None and found.hand is not None:
        general |= {"vitreaNominalAxis": parameters.axis, "vitreaHand": found.hand.replace(" ", "_")}
    return general


def _pair_table(found: _Outcome, first: Particles, second: Particles) -> Table:
    cluster = found.cluster
    columns: dict[str, Any] = {
        "vitreaTilt": cluster.tilts,
        "vitreaTiltAxis": cluster.axes,
        "vitreaTurnInPlane": cluster.in_plane,
        "vitreaDistance": cluster.distances,
        "vitreaInCluster": cluster.members.astype(np.int64),
        "vitreaSymmetryOperator": cluster.operators + 1,
    }
    if all("rlnImageName" in particles.table for particles in (first, second)):
        columns["rlnImageName"] = first.table["rlnImageName"]
        columns["vitreaTiltedImageName"] = second.table["rlnImageName"]
    return Table(columns)


def _report(found: _Outcome, parameters: ValidateTiltPairsParameters, context: Context) -> None:
    from vitrea.report.figures import tilt_pair_plot
    from vitrea.report.page import Section, write_page
    from vitrea.report.png import save_png

    cluster = found.cluster
    expected = {}
    if parameters.axis is not None:
        expected = {"expected": (parameters.tilt, parameters.axis),
                    "expected of the other hand": (-parameters.tilt, parameters.axis)}  # fmt: skip
    plot = tilt_pair_plot(
        cluster.tilts, cluster.axes, cluster.members, (cluster.tilt, cluster.axis), cluster.radius, expected
    )
    save_png(plot, parameters.output / "tilt_pairs.png")
    members = max(int(cluster.members.sum()), 1)
    facts = {
        "pairs": f"{len(cluster.tilts):,}",
        "in the cluster": f"{members:,} ({100 * cluster.fraction:.0f}%), within {cluster.radius:g}° of its middle",
        "by chance": f"{100 * found.chance.mean():.0f}%, at most {100 * found.chance.max():.0f}% in "
        f"{len(found.chance)} wrong pairings",
        "tilt": f"{cluster.tilt:.1f}° (nominal {parameters.tilt:g}°)",
        "tilt axis": f"{cluster.axis:.1f}° from x towards y",
        "scatter": f"{cluster.scatter:.1f}° (of the middle: {cluster.scatter / np.sqrt(members):.2f}°)",
        "turn in the plane": f"{cluster.turn_in_plane:.1f}°",
        "hand": found.hand or "not asked for: give --axis",
    }
    sections = [
        Section("Tilt pairs", _READING, facts, [(plot, "Tilt and tilt axis of each pair.")]),
        Section("Command", code=context.command),
    ]
    write_page(parameters.output / "report.html", "Tilt pairs", _verdict(found), sections)


def _verdict(found: _Outcome) -> str:
    cluster = found.cluster
    share = (
        f"{100 * cluster.fraction:.0f}% of {len(cluster.tilts)} pairs gather at a tilt of {cluster.tilt:.1f}°, axis "
        f"{cluster.axis:.1f}° (by chance {100 * found.chance.mean():.0f}%)"
    )
    if not found.significant:
        return f"{share}: no more than by chance. The orientations do not fit the tilt."
    if found.hand in ("right", "wrong"):
        return f"{share}. The hand of the map is {found.hand}."
    if found.hand is not None:
        return f"{share}, near neither the tilt expected nor the opposite one: the hand is not known."
    return f"{share}."


def _tell(found: _Outcome, context: Context) -> None:
    if not found.significant:
        context.recorder.warn(
            "no more pairs gather than where images are paired wrongly: orientations, or which images pair, are wrong"
        )
    elif found.hand == "wrong":
        context.recorder.warn("the map has the wrong hand: invert it with vitrea map --invert_hand and refine anew")
    elif found.cluster.fraction < _GOOD:
        context.recorder.warn(
            f"only {100 * found.cluster.fraction:.0f}% of the pairs gather: many orientations are wrong by more than "
            f"{found.cluster.radius:g} degrees"
        )
    context.recorder.event(
        "tilt_pairs",
        fraction=found.cluster.fraction,
        chance=float(found.chance.mean()),
        tilt_deg=found.cluster.tilt,
        axis_deg=found.cluster.axis,
        hand=found.hand or "",
    )
    context.recorder.event("text", text=_verdict(found))


JOB = Job(
    name="validate tilt-pairs",
    summary="Test orientations and hand by images of the same particles on a tilted stage.",
    parameters=ValidateTiltPairsParameters,
    run=run,
    examples=[
        "vitrea validate tilt-pairs --i particles.star --i2 tilted.star --tilt 20 --axis 85 --o Validate/tilt_pairs"
    ],
)
