"""Run a job with recorders attached, and turn what goes wrong into an exit code and one sentence."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import vitrea
from vitrea.cli.joblog import JobLog, TeeRecorder
from vitrea.cli.options import changed_parameters, format_value
from vitrea.jobs.base import Context, Job, JobParameters
from vitrea.records.errors import InputError, JobError
from vitrea.records.recorder import Recorder, SilentRecorder

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# The operating system's refusals that a user can mend; others are shown with a traceback.
_USER_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def run_job(job: Job, parameters: JobParameters, command: str, quiet: bool = False) -> None:
    """Run a job: figures go to the terminal and, where the job names one, to its log file."""
    from vitrea.cli.display import terminal_recorder

    keep_stdout = job.writes_to_stdout is not None and job.writes_to_stdout(parameters)
    display = QuietRecorder() if quiet else terminal_recorder(to_stderr=keep_stdout)
    recorders: list[Recorder] = [display]
    log_path = job.log_file(parameters) if job.log_file else None
    log = JobLog(log_path) if log_path else None
    if log:
        recorders.append(log)
        changed = {spec.field: format_value(value) for spec, value in changed_parameters(parameters)}
        log.event("start", job=job.name, version=vitrea.__version__, command=command)
        log.event("parameters", **changed)
    try:
        job.run(parameters, Context(recorder=TeeRecorder(recorders), command=command))
        if log:
            log.finish()
    except BaseException as error:
        if log:
            log.fail(error)
        raise
    finally:
        if not isinstance(display, QuietRecorder):
            display.close()
        if log:
            log.close()


class QuietRecorder(SilentRecorder):
    """Shows warnings only."""

    def event(self, name: str, **values: object) -> None:
        """Show nothing."""

    def warn(self, message: str) -> None:
        """Write a warning to stderr."""
        sys.stderr.write(f"Warning: {message}\n")


def guarded(action: Callable[[], int], title: Callable[[], str]) -> int:
    """Run an action; return its exit code, or that of the mistake or interruption it ended with.

    A user's mistake (InputError, a full disk, a folder without permission) is one sentence on stderr and exit code 2;
    a bad outcome (JobError, too little memory) is one sentence and 1; Ctrl-C is one line and 130. Whatever else goes
    wrong is a fault of the program and keeps its traceback.
    """
    try:
        return action()
    except InputError as error:
        sys.stderr.write(f"{title()}: {error}\n")
        return EXIT_USAGE
    except JobError as error:
        sys.stderr.write(f"{title()}: {error}\n")
        return EXIT_FAILED
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        sys.stderr.write(f"{title()}: not enough memory ({str(error).strip().splitlines()[-1]}).\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"{title()}: stopped by Ctrl-C.\n")
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        where = f" {error.filename}" if error.filename else ""
        sys.stderr.write(f"{title()}: cannot write or read{where}: {error.strerror}.\n")
        return EXIT_USAGE


def _lacks_memory(error: Exception) -> bool:
    """Whether memory could not be had; torch says so with a RuntimeError."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)
