"""Independent random streams from one seed, so that changing the sampler changes nothing but the sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.core.processes import process_rank
from harness.training.checkpoint import CheckpointError


class Streams:
    """Five streams that share nothing but the seed.

    ``weights`` seeds torch's global generator while the model is built, ``steps`` seeds it for the training steps
    (dropout), ``data`` seeds the order and the augmentation, ``sampling`` is the samplers' noise and ``shadow`` that of
    samplers which are only watched.

    Args:
        seed: the run's seed.
        device: where the noise is drawn.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        parts = np.random.SeedSequence(seed).spawn(5)
        numbers = [int(part.generate_state(1, np.uint64)[0] >> np.uint64(1)) for part in parts]
        self.weights, self.steps, self.data, sampling, shadow = numbers
        self.sampling = torch.Generator(device).manual_seed(sampling)
        self.shadow = torch.Generator(device).manual_seed(shadow)

    def state_dict(self) -> dict[str, Any]:
        """The positions of all streams that advance while training, torch's global ones among them."""
        state: dict[str, Any] = {
            "sampling": self.sampling.get_state(),
            "shadow": self.shadow.get_state(),
            "torch": torch.get_rng_state(),
        }
        # Of the run's own device alone: it may be another one, or one of fewer, where the run is continued.
        if self._device.type == "cuda":
            state["device"] = torch.cuda.get_rng_state(self._device)
        elif self._device.type == "mps":
            state["device"] = torch.mps.get_rng_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken, on any device of the same kind.

        torch's global streams, which serve dropout only, are the first process's: the others go on with their own.

        Raises:
            CheckpointError: the state is of another kind of device, whose noise cannot go on here.
        """
        try:
            self.sampling.set_state(state["sampling"])
            self.shadow.set_state(state["shadow"])
        except RuntimeError as error:
            kind = self._device.type
            raise CheckpointError(
                f"the checkpoint is of another kind of device than {kind}, whose random noise cannot go on here; "
                f"continue the run there, or start another one with run.device={kind}"
            ) from error
        if process_rank() > 0:
            return
        torch.set_rng_state(state["torch"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["device"], self._device)
        elif self._device.type == "mps":
            torch.mps.set_rng_state(state["device"])
