"""Box coders: there and back, torchvision's values, any leading dimensions, edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder

from harness.coders import Coder, DeltaCoder, DistancePointCoder, LinearCoder, StandardizedDeltaCoder, TBLRCoder

CODERS: list[Coder] = [
    DeltaCoder(),
    DeltaCoder((10.0, 10.0, 5.0, 5.0)),
    StandardizedDeltaCoder((0.1, -0.2, 0.3, 0.0), (0.1, 0.1, 0.2, 0.2)),
    StandardizedDeltaCoder(add_ctr_clamp=True, ctr_clamp=1000),
    LinearCoder(True),
    LinearCoder(False),
    DistancePointCoder(),
    TBLRCoder(4.0),
    TBLRCoder((1.0, 2.0, 3.0, 4.0)),
]
each_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: type(coder).__name__)


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = 100 * torch.rand(*shape, 2, generator=generator)
    return torch.cat((near, near + 4 + 60 * torch.rand(*shape, 2, generator=generator)), -1)


@each_coder
@pytest.mark.parametrize("shape", [(9,), (2, 9), (3, 2, 4), (0,), (2, 0)])
def test_decoding_undoes_encoding(coder: Coder, shape: tuple[int, ...]) -> None:
    boxes, candidates = random_boxes(*shape, seed=1), random_boxes(*shape, seed=2)
    deltas = coder.encode(boxes, candidates)
    assert deltas.shape == boxes.shape
    torch.testing.assert_close(coder.decode(deltas, candidates), boxes, rtol=1e-5, atol=1e-3)


@each_coder
def test_class_specific_deltas_decode_against_one_candidate(coder: Coder) -> None:
    candidates = random_boxes(7, seed=3)
    deltas = 0.2 * torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(4))
    together = coder.decode(deltas, candidates.unsqueeze(-2))
    assert together.shape == (7, 5, 4)
    for column in range(5):
        assert torch.equal(together[:, column], coder.decode(deltas[:, column], candidates))


@each_coder
def test_double_stays_double_and_inputs_are_left_alone(coder: Coder) -> None:
    boxes, candidates = random_boxes(6, seed=5).double(), random_boxes(6, seed=6).double()
    before = boxes.clone(), candidates.clone()
    deltas = coder.encode(boxes, candidates)
    assert deltas.dtype == torch.float64
    assert coder.decode(deltas, candidates).dtype == torch.float64
    assert torch.equal(boxes, before[0])
    assert torch.equal(candidates, before[1])


@each_coder
def test_decoding_has_a_finite_gradient_even_for_a_candidate_without_area(coder: Coder) -> None:
    candidates = torch.tensor([[10.0, 10.0, 10.0, 10.0], [0.0, 0.0, 20.0, 30.0]])
    deltas = torch.tensor([[1e4, -1e4, 1e4, -1e4], [0.1, 0.2, 0.3, 0.4]], requires_grad=True)
    decoded = coder.decode(deltas, candidates)
    (gradient,) = torch.autograd.grad(decoded.sum(), deltas)
    assert torch.isfinite(decoded).all()
    assert torch.isfinite(gradient).all()


@each_coder
def test_compiles_without_a_graph_break(coder: Coder) -> None:
    boxes, candidates = random_boxes(2, 6, seed=7), random_boxes(2, 6, seed=8)

    def there_and_back(boxes: Tensor, candidates: Tensor) -> Tensor:
        return coder.decode(coder.encode(boxes, candidates), candidates)

    torch._dynamo.reset()
    compiled = torch.compile(there_and_back, fullgraph=True, backend="eager", dynamic=True)
    assert torch.equal(compiled(boxes, candidates), there_and_back(boxes, candidates))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_deltas_are_those_of_torchvision_to_the_bit(weights: tuple[float, float, float, float]) -> None:
    boxes, candidates = random_boxes(40, seed=9), random_boxes(40, seed=10)
    ours, theirs = DeltaCoder(weights), BoxCoder(weights)
    encoded = theirs.encode_single(boxes, candidates)
    assert torch.equal(ours.encode(boxes, candidates), encoded)
    noisy = encoded + torch.randn(40, 4, generator=torch.Generator().manual_seed(11)) * 3
    assert torch.equal(ours.decode(noisy, candidates), theirs.decode_single(noisy, candidates))


@pytest.mark.parametrize("normalize", [True, False])
def test_distances_are_those_of_torchvision_to_the_bit(normalize: bool) -> None:
    boxes, candidates = random_boxes(40, seed=12), random_boxes(40, seed=13)
    ours, theirs = LinearCoder(normalize), BoxLinearCoder(normalize)
    encoded = theirs.encode(candidates, boxes)
    assert torch.equal(ours.encode(boxes, candidates), encoded)
    assert torch.equal(ours.decode(encoded, candidates), theirs.decode(encoded, candidates))


def test_size_ratios_are_clamped() -> None:
    candidates, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 50.0, -50.0]])
    x1, y1, x2, y2 = DeltaCoder().decode(deltas, candidates)[0].tolist()
    assert x2 - x1 == pytest.approx(1000, rel=1e-4)
    assert y2 - y1 == pytest.approx(0, abs=1e-4)
    x1, y1, x2, y2 = StandardizedDeltaCoder(wh_ratio_clip=0.5).decode(deltas, candidates)[0].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((32, 8))


def test_the_shift_of_the_centre_is_clamped_on_request() -> None:
    candidates, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[5.0, -5.0, 0.0, -50.0]])
    coder = StandardizedDeltaCoder(add_ctr_clamp=True, ctr_clamp=8)
    x1, y1, x2, y2 = coder.decode(deltas, candidates)[0].tolist()
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((16, 0))
    assert y2 - y1 == pytest.approx(0, abs=1e-4)  # then the ratio has no lower clamp


@pytest.mark.parametrize("make", [StandardizedDeltaCoder, DistancePointCoder, TBLRCoder])
def test_boxes_are_clipped_where_asked(make) -> None:
    candidates, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[30.0, 40.0, 60.0, 70.0]])
    free = make(clip_border=False).decode(deltas, candidates, (50, 40))
    assert torch.equal(free, make().decode(deltas, candidates))
    clipped = make().decode(deltas, candidates, (50, 40))
    expected = torch.minimum(free.clamp(min=0), torch.tensor([40.0, 50.0, 40.0, 50.0]))
    assert torch.equal(clipped, expected)


def test_distances_end_before_the_last_bin() -> None:
    coder = DistancePointCoder(max_dis=16, eps=0.1)
    encoded = coder.encode(torch.tensor([[9.0, 9.0, 100.0, 10.0]]), torch.tensor([[4.0, 4.0, 12.0, 12.0]]))
    assert encoded[0].tolist() == pytest.approx([0, 0, 15.9, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeltaCoder((1.0, 1.0, 0.0, 1.0)), "^weights"),
        (lambda: StandardizedDeltaCoder(target_means=(0.0,)), "^target_means"),
        (lambda: StandardizedDeltaCoder(target_stds=(1.0, 1.0, 0.0, 1.0)), "^target_stds"),
        (lambda: StandardizedDeltaCoder(wh_ratio_clip=2), "wh_ratio_clip=2 must be above 0 and below 1"),
        (lambda: DistancePointCoder(max_dis=0.05), "^max_dis=0.05 must be above eps=0.1"),
        (lambda: TBLRCoder((1.0, 2.0)), "^normalizer"),
        (lambda: TBLRCoder(0.0), "^normalizer"),
    ],
)
def test_a_bad_value_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_default_clip_is_torchvisions() -> None:
    assert DeltaCoder().clip == BoxCoder((1.0, 1.0, 1.0, 1.0)).bbox_xform_clip == math.log(1000 / 16)
