"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitrea.records.errors import InputError

_CAUSES = {
    errno.ENOSPC: "no space left on the disk; free some, or write to another disk",
    errno.EDQUOT: "your disk quota is used up; free some space, or write to another disk",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EISDIR: "a folder of that name is in the way; choose another name",
    errno.EFBIG: "the file grew larger than the disk or a limit allows",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk reports an input/output error",
}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it becomes `path`, on any failure it is removed.

    The temporary file and its folder are flushed to the disk before and after the rename, so that after a crash a
    reader finds the old file or the new one, never a part. A symbolic link is written through.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder must exist.

    Yields
    ------
    Path
        A name in the same folder; the block must create this file.

    Raises
    ------
    InputError
        If the file cannot be written (disk full, no permission, no such folder): names `path` and the cause.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"cannot write {path}: {_CAUSES[errno.EISDIR]}")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {target.parent} does not exist; make it first")
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(target)
        _flush(target.parent)
    except OSError as error:
        _remove(temporary)
        if error.filename is not None and os.fspath(error.filename) != os.fspath(temporary):
            raise  # the block failed on some other file: not a failure to write this one
        raise InputError(f"cannot write {path}: {_CAUSES.get(error.errno or 0, error.strerror or error)}") from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    # A failing unlink must not hide the error that brought us here.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Ask the disk to keep what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems refuse to sync (folders above all); a full disk is still an error.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
