"""Closes a W&B run in bounded time, whatever state W&B's service process is in."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any

from harness.runs.schema import TrackerConfig

log = logging.getLogger("harness")

OFFLINE_SECONDS = 30.0  # writing the last records takes about one
ONLINE_SECONDS = 300.0  # an upload takes as long as the network needs
AFTER_KILL_SECONDS = 5.0


def close(run: Any, exit_code: int, settings: TrackerConfig) -> bool:
    """Finishes a ``wandb`` run, in bounded time, and says whether that worked.

    Args:
        run: open.
        exit_code: that W&B shows.
        settings: of the run: an upload is given more time.
    """
    return finish(run, exit_code, ONLINE_SECONDS if settings.mode == "online" else OFFLINE_SECONDS)


def finish(run: Any, exit_code: int, seconds: float) -> bool:
    """Calls ``run.finish``; after ``seconds`` the service is killed, so that neither this call nor the exit waits on.

    Returns:
        whether it finished without an error. What is on disk can be uploaded with ``wandb sync`` in any case.
    """
    errors: list[Exception] = []

    def body() -> None:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True, name="wandb-finish")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("W&B did not finish within %g s and is ended; the run's folder misses nothing", seconds)
        _kill_service()
        thread.join(AFTER_KILL_SECONDS)
        return False
    if errors:
        reason = (str(errors[0]).splitlines() or [type(errors[0]).__name__])[0]
        log.warning("the W&B mirror was not closed (%s); the run's folder misses nothing", reason)
    return not errors


def _kill_service() -> None:
    """Kills the service process that W&B started here; at its exit this process would wait for it without end."""
    from wandb.sdk import wandb_setup

    with suppress(Exception):  # W&B has no public name for it, and other versions may keep it elsewhere
        wandb_setup.singleton()._connection._proc._process.kill()  # type: ignore[union-attr]
