"""Whether runs can be written at all, asked before data are read, which may take minutes."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_writable(root: Path, seed: int) -> None:
    """Asks the file system, and leaves nothing behind.

    Says nothing where a run of this seed is there: it may hold the result that is asked for, which is answered from a
    folder that may only be read. Only the data tell whether it is that run.

    Args:
        root: ``run.root``.
        seed: of the run.

    Raises:
        OSError: no folder can be made in ``<root>/runs``; it names the folder that may not be written.
    """
    runs = root / "runs"
    if next(runs.glob(f"*-s{seed}-*"), None) is not None:
        return
    place = next(one for one in (runs, *runs.parents) if os.path.lexists(one))
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        if error.errno in NOT_WRITABLE:
            raise OSError(error.errno, error.strerror, str(place)) from None
