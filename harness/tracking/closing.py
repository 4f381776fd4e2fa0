"""Closes a W&B run in bounded time, whatever state W&B's service process is in."""

from __future__ import annotations

import logging
import subprocess
import threading
from contextlib import suppress
from typing import Any

from harness.runs.schema import TrackerConfig

log = logging.getLogger("harness")

OFFLINE_SECONDS = 30.0  # writing the last records takes about one
ONLINE_SECONDS = 300.0  # an upload takes as long as the network needs
ATTEMPT_SECONDS = 10.0  # a service that holds no run ends within one
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


def end_attempt(seconds: float = ATTEMPT_SECONDS) -> None:
    """Ends W&B's service after a run that could not be opened: what is left of the attempt holds the run's name.

    W&B tells its service to end and waits for it without a bound. A service that still answers the attempt may miss
    that message, and lives on; after ``seconds`` it is killed. The next ``wandb.init`` starts another one.
    """
    import wandb

    process = _service()  # before the call, which forgets it

    def body() -> None:
        with suppress(Exception, SystemExit):  # W&B exits with the service's code
            wandb.teardown()

    thread = threading.Thread(target=body, daemon=True, name="wandb-teardown")
    thread.start()
    thread.join(seconds)
    if thread.is_alive() and process is not None:
        process.kill()
        thread.join(AFTER_KILL_SECONDS)


def _kill_service() -> None:
    """Kills the service process that W&B started here; at its exit this process would wait for it without end."""
    process = _service()
    if process is not None:
        with suppress(OSError):
            process.kill()


def _service() -> subprocess.Popen[bytes] | None:
    """The service process that W&B started here."""
    try:  # W&B has no public name for it, and other versions may keep it elsewhere
        from wandb.sdk import wandb_setup

        return wandb_setup.singleton()._connection._proc._process  # type: ignore[union-attr]
    except (ImportError, AttributeError):
        return None
