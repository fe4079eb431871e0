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
    from vitrea.jobs.import_exposures import import_exposures
    from vitrea.records.micrographs import Micrographs

    import_exposures(Micrographs, parameters, context.recorder)


JOB = Job(
    name="import micrographs",
    summary="Check micrographs and list them with the settings of the microscope.",
    parameters=MicrographImportParameters,
    run=run,
    ignored_options=IGNORED_OPTIONS,
    examples=('vitrea import micrographs "Micrographs/*.mrc" --angpix 1.5 --kV 300 --Cs 2.7 --Q0 0.07',),
)
