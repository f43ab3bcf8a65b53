"""No process outlives the one that it works for."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "LQF_PARENT"
"""Environment variable with the process that jobs end with; the workflow sets it to its own."""

_INTERVAL = 1.0
# A job that is asked to end takes at most 20 s to keep its state (`lqf.snapshot`).
_PATIENCE = 30.0


def end_with(process: int) -> None:
    """End this process soon after another one: as SIGTERM does, and where that does not help, at once."""

    def watch() -> None:
        while _alive(process):
            time.sleep(_INTERVAL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
