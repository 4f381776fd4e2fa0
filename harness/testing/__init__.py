"""The contracts of samplers, assigners and losses, as functions for pieces of your own.

    from harness.testing import check_sampler
    check_sampler(MySampler(num=64))

Each raises :class:`ContractError`, which says which promise is broken and in what situation. The same functions run
over every option of ``conf/`` in the tests of this project. They need a second or two for each piece, on the CPU.
"""

from harness.testing.assigners import check_assigner
from harness.testing.contract import ContractError
from harness.testing.losses import check_classification_loss, check_regression_loss
from harness.testing.samplers import check_sampler

__all__ = [
    "ContractError",
    "check_assigner",
    "check_classification_loss",
    "check_regression_loss",
    "check_sampler",
]
