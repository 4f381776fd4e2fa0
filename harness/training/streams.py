"""Independent random streams from one seed, so that changing the sampler changes nothing but the sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.core.processes import process_rank


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
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        torch's global streams, which serve dropout only, are the first process's: the others go on with their own.
        """
        self.sampling.set_state(state["sampling"])
        self.shadow.set_state(state["shadow"])
        if process_rank() > 0:
            return
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state_all(state["cuda"])
