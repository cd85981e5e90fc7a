"""Files that are never half-written, and folders that one process at a time writes to."""

import contextlib
import errno
import os
from pathlib import Path

from filelock import FileLock, Timeout

from genlib import UserError


def write(path, content):
    """Write bytes or text to ``path`` atomically: a temporary file beside it, then a rename.

    Raises ``UserError``, and leaves what was there, where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # it is there if something went wrong, an interruption included


def unwritable(path, error):
    """The ``UserError`` for what cannot be written; error: an ``OSError`` or TensorFlow's like."""
    why, todo = getattr(error, "strerror", None) or str(error), "give a file or folder of your own"
    if any(os.strerror(code) in why for code in (errno.ENOSPC, errno.EDQUOT)):
        todo = "free some space, then run again: resume=true goes on where it stopped"
    return UserError(f"{path} cannot be written ({why}); {todo}.")


def lock(folder, wait=5.0):
    """Keep other processes from ``folder`` until this one ends, or lets go of what is returned.

    wait: seconds to wait for another's end: a killed run's kernel lives for a second or two more.
    The same process may lock again. Raises ``UserError`` if another process holds the folder.
    """
    held = FileLock(Path(folder) / ".lock", is_singleton=True, thread_local=False)
    try:
        held.acquire(timeout=wait)
    except Timeout:
        raise UserError(
            f"{folder} belongs to a run that has not ended; wait for it, or give another run_dir."
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    return held
