"""``vitrea import micrographs``: a checked list of images, for CTF estimation and picking."""

from __future__ import annotations

from vitrea.jobs.base import Context, Job
from vitrea.jobs.import_parameters import IGNORED_OPTIONS, ExposureParameters


class MicrographImportParameters(ExposureParameters):
    """Import micrographs: MRC or TIFF images, summed from movies or taken as they are.

    Headers of all files are read first. What is truncated, corrupt, a movie, or of another size than most is set aside
    and listed in micrographs_set_aside.star with the reason; the rest is written to micrographs.star.
    """


def run(parameters: MicrographImportParameters, context: Context) -> None:
    """Check and write.

    Raises
    ------
    InputError
        If no file can be used, or settings are missing or wrong.
    """
    from vitrea.formats.micrograph_files import read_micrographs
    from vitrea.jobs.import_exposures import (
        check_files,
        choose_pixel_size,
        join_earlier,
        make_exposures,
        write_import,
    )
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.micrographs import Micrographs

    recorder = context.recorder
    earlier = read_micrographs(parameters.add_to, require_optics=False) if parameters.add_to else None
    checked = check_files("micrograph", parameters, earlier, recorder)
    pixel_size = choose_pixel_size(parameters.pixel_size, checked.headers, recorder)
    micrographs = make_exposures(Micrographs, list(checked.headers), parameters, pixel_size)
    if earlier is not None:
        micrographs = join_earlier(earlier, micrographs)
    make_folder(parameters.output / "micrographs.star")
    write_import(micrographs, checked, parameters, recorder)


JOB = Job(
    name="import micrographs",
    summary="Check micrographs and list them with the settings of the microscope.",
    parameters=MicrographImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
)
