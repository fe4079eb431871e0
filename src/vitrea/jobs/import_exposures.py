"""From files that were checked to a set of movies or micrographs with optics groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vitrea.formats.image_names import project_name
from vitrea.formats.micrograph_files import (
    expand_names,
    locate_image,
    read_micrographs,
    read_movies,
    write_micrographs,
)
from vitrea.formats.mrc_header import UNSET_PIXEL_SIZES
from vitrea.formats.star_values import text_column
from vitrea.jobs.import_checks import check_exposures, report_set_aside
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.set_aside import SetAside
from vitrea.records.errors import InputError
from vitrea.records.micrographs import Micrographs, Movies
from vitrea.records.optics import Optics
from vitrea.records.table import Table

if TYPE_CHECKING:
    from vitrea.formats.movies import MovieHeader
    from vitrea.jobs.import_parameters import ExposureParameters
    from vitrea.records.recorder import Recorder

Exposures = TypeVar("Exposures", Micrographs, Movies)

_GROUP = "rlnOpticsGroup"
_ROUNDING = 0.01


@dataclass(frozen=True)
class _Checked:
    """Files after the checks.

    Attributes
    ----------
    noun : str
        "movie" or "micrograph".
    headers : mapping of Path to MovieHeader
        Those that can be used.
    aside : sequence of SetAside
        Those that cannot.
    """

    noun: str
    headers: Mapping[Path, MovieHeader]
    aside: Sequence[SetAside]

    @property
    def total(self) -> int:
        """How many there were."""
        return len(self.headers) + len(self.aside)


def import_exposures(
    kind: type[Exposures],
    parameters: ExposureParameters,
    recorder: Recorder,
    complete: Callable[[Exposures, Mapping[Path, MovieHeader], Exposures | None], Exposures] | None = None,
) -> None:
    """Check movies or micrographs, list them with their optics groups, and write the list.

    Parameters
    ----------
    kind : Movies or Micrographs
    parameters : ExposureParameters
    recorder : Recorder
    complete : callable, optional
        Adds what else is known: called with the new files, their headers, and those of the earlier import or None.

    Raises
    ------
    InputError
        If no file can be used, or settings are missing or wrong; nothing is written then.
    """
    noun, read = ("movie", read_movies) if kind is Movies else ("micrograph", read_micrographs)
    earlier: Any = read(parameters.add_to, require_optics=False) if parameters.add_to else None
    paths = _new_files(noun, parameters, earlier)
    target = parameters.output / f"{noun}s.star"
    if earlier is not None and not paths:
        recorder.event("text", text=f"no {noun}s that {parameters.add_to} does not have")
        make_folder(target)
        write_micrographs(target, earlier)
        return
    checked = _check_files(noun, paths, parameters, earlier, recorder)
    pixel_size = choose_pixel_size(parameters.pixel_size, checked.headers, recorder)
    exposures = make_exposures(kind, list(checked.headers), parameters, pixel_size)
    if complete is not None:
        exposures = complete(exposures, checked.headers, earlier)
    if earlier is not None:
        exposures = join_earlier(earlier, exposures)
    make_folder(target)
    _write(target, exposures, checked, recorder)


def _new_files(noun: str, parameters: ExposureParameters, earlier: Movies | Micrographs | None) -> list[Path]:
    """Return the files that the user named without those of an earlier import; InputError if there is none at all."""
    if not parameters.input:
        raise InputError(f'give the {noun}s: files, folders, or patterns in quotes ("Folder/*.mrc")')
    known = set() if earlier is None else set(earlier.names)
    return [path for path in dict.fromkeys(expand_names(parameters.input)) if project_name(path) not in known]


def _check_files(
    noun: str,
    paths: Sequence[Path],
    parameters: ExposureParameters,
    earlier: Movies | Micrographs | None,
    recorder: Recorder,
) -> _Checked:
    """Check files as the parameters have it; InputError if none can be used."""
    if parameters.mtf is not None and not parameters.mtf.is_file():
        raise InputError(f"the MTF file {parameters.mtf} does not exist")
    headers, aside = check_exposures(
        paths,
        noun,
        recorder,
        pixels=parameters.check_pixels,
        accept_any_size=parameters.accept_any_size,
        like=None if earlier is None else locate_image(earlier, 0),
    )
    return _Checked(noun, headers, aside)


def choose_pixel_size(given: float, headers: Mapping[Path, MovieHeader], recorder: Recorder) -> float:
    """Return the pixel size in Å: as given, else as the headers have it.

    Raises
    ------
    InputError
        If none is given and the headers have none, or differ by more than 1%.
    """
    found = {path: header.pixel_size for path, header in headers.items() if header.pixel_size not in UNSET_PIXEL_SIZES}
    if given:
        wrong = [path for path, size in found.items() if abs(size / given - 1) > _ROUNDING]
        if wrong:
            recorder.warn(
                f"the header of {wrong[0]} has a pixel size of {found[wrong[0]]:g} Å ({len(wrong)} of {len(headers)} "
                f"files differ), {given:g} Å is used as given"
            )
        return given
    if not found:
        raise InputError("the headers of the files give no pixel size; give it with --angpix (in Å)")
    sizes = sorted(found.values())
    if sizes[-1] > sizes[0] * (1 + _ROUNDING):
        raise InputError(
            f"the headers of the files have pixel sizes from {sizes[0]:g} to {sizes[-1]:g} Å; import the kinds "
            "separately, or give the right one with --angpix"
        )
    size = float(np.median(sizes))
    recorder.event("text", text=f"pixel size {size:g} Å, from the headers")
    return size


def make_exposures(
    kind: type[Exposures], paths: Sequence[Path], parameters: ExposureParameters, pixel_size: float
) -> Exposures:
    """Return the files as movies or micrographs, in optics groups as the parameters have it.

    Raises
    ------
    InputError
        If the regular expression for groups makes no sense or a file name does not match it.
    """
    names = [project_name(path) for path in paths]
    texts = _group_texts(names, parameters.group_by)
    groups = {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}
    base = Optics(
        pixel_size=pixel_size,
        image_size=0,
        voltage=parameters.voltage,
        spherical_aberration=parameters.spherical_aberration,
        amplitude_contrast=parameters.amplitude_contrast,
        beam_tilt_x=parameters.beam_tilt_x,
        beam_tilt_y=parameters.beam_tilt_y,
        mtf_file=project_name(parameters.mtf) if parameters.mtf else "",
        original_pixel_size=pixel_size,
    )
    name = parameters.optics_group_name
    optics = tuple(
        replace(base, group=number, name=f"{name}_{text}" if text else name) for text, number in groups.items()
    )
    numbers = np.array([groups[text] for text in texts], dtype=np.int64)
    return kind(Table({kind.name_label: text_column(names), _GROUP: numbers}), optics)


def _group_texts(names: Sequence[str], pattern: str) -> list[str]:
    if not pattern:
        return [""] * len(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern!r} is no regular expression: {error}") from None
    if expression.groups != 1:
        raise InputError(f"--group-by {pattern!r} needs one part in brackets: what tells the optics group")
    matches = [expression.search(Path(name).name) for name in names]
    bad = next((name for name, match in zip(names, matches, strict=True) if match is None), None)
    if bad is not None:
        raise InputError(f"--group-by {pattern!r} does not match the name of {bad}")
    return [match[1] or "" for match in matches if match is not None]


def join_earlier(earlier: Exposures, new: Exposures) -> Exposures:
    """Return the files of an earlier import followed by new ones.

    Raises
    ------
    InputError
        If both have an optics group of the same name with other settings, or the earlier list has numbers for each file
        that new files cannot have.
    """
    optics = list(earlier.optics)
    renumbered: dict[int, int] = {}
    for group in new.optics:
        same = next((one for one in optics if _same_settings(one, group)), None)
        if same is None:
            if any(one.name == group.name for one in optics):
                raise InputError(
                    f"{earlier.source} has an optics group {group.name} with other settings; give the new files' group "
                    "another name with --optics-group-name"
                )
            same = replace(group, group=max(one.group for one in optics) + 1)
            optics.append(same)
        renumbered[group.group] = same.group
    columns: dict[str, Any] = {}
    for label in dict.fromkeys((*earlier.table, *new.table)):
        columns[label] = _joined_column(label, earlier.table, new.table, earlier.source)
    numbers = np.array([renumbered[int(number)] for number in new.table[_GROUP]], dtype=np.int64)
    columns[_GROUP] = np.concatenate([earlier.table[_GROUP], numbers])
    return replace(earlier, table=Table(columns), optics=tuple(optics))


def _same_settings(one: Optics, other: Optics) -> bool:
    return all(
        getattr(one, field.name) == getattr(other, field.name) for field in fields(Optics) if field.name != "group"
    )


def _joined_column(label: str, earlier: Table, new: Table, source: Path | None) -> Any:
    """Return a column of both lists; what one of them lacks is empty text, and an error where it is a number."""
    parts = []
    for table, other in ((earlier, new), (new, earlier)):
        if label in table:
            parts.append(table[label])
        elif other[label].dtype == object:
            parts.append(np.full(len(table), "", dtype=object))
        else:
            known, unknown = ("the new files", source) if table is earlier else (source, "the new files")
            raise InputError(f"{label} is known of {known}, but not of {unknown}; give it for all or for none")
    return np.concatenate(parts)


def _write(path: Path, exposures: Movies | Micrographs, checked: _Checked, recorder: Recorder) -> None:
    """Write the list of what is imported and that of what is set aside, and say what is where."""
    noun, first = checked.noun, next(iter(checked.headers.values()))
    write_micrographs(path, exposures)
    frames = f", {first.shape[0]} {'raw frames' if first.kind == 'EER' else 'frames'}" if noun == "movie" else ""
    new = f", {len(checked.headers)} of them new" if len(exposures) > len(checked.headers) else ""
    group = exposures.optics[-1]
    recorder.event(
        "text",
        text=f"{path}: {_count(len(exposures), noun)}{new} ({first.shape[2]} x {first.shape[1]} pixels{frames}, "
        f"{first.dtype}) in {_count(len(exposures.optics), 'optics group')}: {group.pixel_size:g} Å, {group.voltage:g} "
        f"kV, Cs {group.spherical_aberration:g} mm, amplitude contrast {group.amplitude_contrast:g}",
    )
    report_set_aside(checked.aside, checked.total, noun, path.with_name(f"{noun}s_set_aside.star"), recorder)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
