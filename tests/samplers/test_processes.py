"""What is mined from, or weighed over, the whole batch is the same on one process and on two with half of it each."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.processes import process_count, process_rank
from harness.core.structures import Sampler, SamplingResult
from harness.samplers.all import AllSampler
from harness.samplers.isr_p import ISRPSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.ohem_threshold import OHEMThresholdSampler
from harness.testing.sampling_scenes import make_scene
from tests.processes import together
from tests.samplers.test_isr_p import slots

SAMPLERS: dict[str, Sampler] = {
    "ohem": OHEMSampler(6, 0.25, neg_pos_ub=3, scope="batch"),
    "ohem without quotas": OHEMSampler(6, 0.25, separate_quotas=False, scope="batch"),
    "ohem by threshold": OHEMThresholdSampler(9),
}
IMAGES, SHORT = 4, 20  # candidates of the second half of the images; the others are padding


def mined() -> dict[str, Tensor]:
    """By sampler: the positives and the weights of this process's images, ``(B, 40)`` each."""
    found = {}
    for seed, (name, sampler) in enumerate(SAMPLERS.items()):
        for coarse in (False, True):
            scene = make_scene(seed, batch=IMAGES, coarse=coarse)
            for image in range(IMAGES // 2, IMAGES):
                scene = scene.padded(image, SHORT)
            size = IMAGES // process_count()
            first = process_rank() * size
            scene = scene.image(slice(first, first + size))
            sample = scene.sampled(sampler)
            found[f"{name} {coarse}"] = torch.stack((sample.positive * 1.0, sample.weight))
    return found


def weighed() -> dict[str, Tensor]:
    """ISR-P's factors of this process's images, with and without positives in the second half."""
    found = {}
    for name, limit in (("everywhere", 3), ("in the first half", -1)):
        sample, gt_index, labels, iou, losses = slots(3, IMAGES, 12, coarse=True)
        positive = sample.positive.clone()
        positive[IMAGES // 2 :] &= gt_index[IMAGES // 2 :] <= limit
        parts = [positive, sample.index, sample.weight, gt_index, labels, iou, losses]
        positive, index, weight, *rest = (part.chunk(process_count())[process_rank()] for part in parts)
        own = SamplingResult(index, positive, weight)
        found[name] = ISRPSampler(AllSampler(), k=2, bias=0.1).class_weights(own, *rest).unsqueeze(0)
    return found


def both() -> dict[str, Tensor]:
    return mined() | weighed()


def test_the_batch_is_that_of_all_processes() -> None:
    alone, halves = both(), together(2, both)
    for name, expected in alone.items():
        found = torch.cat([half[name] for half in halves], 1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, msg=name)
    assert all(0 < alone[f"{name} False"][1].sum() < IMAGES * 20 for name in SAMPLERS)
