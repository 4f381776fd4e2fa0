"""Golden checks of the image samplers in the second set."""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.data.image_samplers import RepeatFactorSampler
from harness.data.image_samplers.presence import ClassPresence
from tests.golden.case import Case
from tests.golden2.tolerances import BOX_LOSS


def check_repeat_factors(case: Case) -> None:
    params = case.params
    image = torch.arange(params["num_images"]).repeat_interleave(case.tensor("class_list_length"))
    pairs = torch.stack((image, case.tensor("class_list_flat"))).unique(dim=1)
    presence = ClassPresence(pairs[0], pairs[1], params["num_images"], params["num_classes"])
    threshold = params["repeat_thresh"]
    rooted = RepeatFactorSampler(threshold).weights(presence)
    case.assert_close(rooted, "expected_repeat_factor", **BOX_LOSS)
    case.assert_close(rooted, "expected_repeat_factor_mmengine", **BOX_LOSS)
    case.assert_close(
        RepeatFactorSampler(threshold, False).weights(presence), "expected_repeat_factor_no_sqrt", **BOX_LOSS
    )
    copies = (rooted - 1e-6).ceil()  # a factor that is a whole number but for rounding is that number of copies
    case.assert_close(copies, "expected_copies_mmengine", rtol=0, atol=0)


CHECKS: dict[str, Callable[[Case], None]] = {"repeat_factors": check_repeat_factors}
