"""Whole recipes: every named loss and the gradients of the raw outputs, through the recipe's own configuration.

``conf/recipe/<name>.yaml`` is composed with what the case's parameters change, its pieces are built as a run builds
them, and a criterion with the facts of the reference's head takes the losses. Only raw outputs are rewritten here into
the numbers that a coder of the project reads, by autograd, so that the gradients come back in the reference's terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from harness.coders import Coder, LinearCoder, StandardizedDeltaCoder, StrideDistanceCoder, YOLOv3Coder, YOLOv5Coder
from harness.coders.delta import DeltaCoder
from harness.core.structures import IGNORED, Activation, Assignment, Candidates, GroundTruth, Need, SamplingResult
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec, Outputs
from harness.criterion.stage import Selection, StageComponents
from harness.experiment.pieces import build_pieces
from harness.losses.terms import Branch
from harness.runs.schema import folder, register
from harness.samplers.isr_p import ISRPSampler
from tests.golden.case import Case
from tests.golden2.tolerances import LOSS, assert_gradient


@cache
def stage(recipe: str, detector: str, overrides: tuple[str, ...]) -> StageComponents:
    """The pieces of the dense stage as ``python -m harness recipe=... detector=...`` builds them."""
    register()
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        config = compose("config", overrides=[f"detector={detector}", f"recipe={recipe}", *overrides])
    return build_pieces(config, []).root


def truth_of(case: Case) -> GroundTruth:
    """The objects of the batch, padded."""
    count = case.params["num_images"]
    return GroundTruth.pad(
        [case.tensor(f"gt_boxes_{i}") for i in range(count)], [case.tensor(f"gt_labels_{i}") for i in range(count)]
    )


def candidates_of(case: Case, boxes: Tensor) -> Candidates:
    """The same ``boxes (N, 4)`` for every image, with levels and strides."""
    images = case.params["num_images"]
    height, width = case.params["img_hw"]
    if "num_level_anchors" in case:
        sizes = case.tensor("num_level_anchors")
    else:
        cells = case.tensor("level_hw").prod(-1)
        sizes = cells * (len(boxes) // int(cells.sum()))
    strides = torch.tensor([float(stride) for stride in case.params["strides"]])
    return Candidates(
        boxes=boxes.expand(images, -1, -1),
        valid=torch.ones(images, len(boxes), dtype=torch.bool),
        level=torch.arange(len(sizes)).repeat_interleave(sizes),
        stride=strides.repeat_interleave(sizes),
        num_levels=len(sizes),
        image_sizes=((height, width),) * images,
    )


def squares(points: Tensor, strides: Tensor) -> Tensor:
    """Points as the harness carries them: squares of one stride."""
    half = strides.unsqueeze(-1) / 2
    return torch.cat((points - half, points + half), -1)


@dataclass(frozen=True)
class Scene:
    """What a recipe is run on."""

    recipe: str
    candidates: Candidates
    coder: Coder
    raw: Mapping[str, Tensor]  # the reference's raw outputs, leaves of the graph
    outputs: Outputs  # made of them
    detector: str = "tiny_retinanet"
    overrides: tuple[str, ...] = ()
    geometry: Geometry = Geometry.ANCHORS
    branch: Branch = Branch.NONE
    bins: int = 0
    refines: bool = False
    classify_positives_only: bool = False
    softmax: bool = False
    progress: float = 1.0
    names: Mapping[str, str] = field(default_factory=dict)  # our term -> the reference's key


def run(case: Case, scene: Scene) -> tuple[dict[str, Tensor], Selection]:
    """The losses of the recipe and what it trained on; gradients are left at ``scene.raw``."""
    classes = case.params["num_classes"]
    pieces = stage(scene.recipe, scene.detector, scene.overrides)
    assert pieces.assigner is not None
    assert pieces.sampler is not None
    assert pieces.loss is not None
    head = HeadSpec(
        stage="dense",
        num_classes=classes,
        columns=classes + scene.softmax,
        first_column=0,
        background=classes if scene.softmax else None,
        activation=Activation.SOFTMAX if scene.softmax else Activation.SIGMOID,
        geometry=scene.geometry,
        coder=scene.coder,
        classify_positives_only=scene.classify_positives_only,
        regression_bins=scene.bins,
        branch=scene.branch,
        refines=scene.refines,
    )
    criterion = Criterion(head, pieces.assigner, pieces.sampler, pieces.loss, warmup=pieces.warmup)
    criterion.progress = scene.progress
    selection = criterion.select(truth_of(case), scene.candidates, scene.outputs.detach)
    losses = criterion(scene.outputs.take(selection.sample), selection)
    torch.stack(list(losses.values())).sum().backward()
    return losses, selection


def check(case: Case, scene: Scene, *, batch_factor: int = 1) -> None:
    """Assignment where it is robust; every named loss and gradient where all of it is.

    Args:
        case: the case.
        scene: what the recipe is run on.
        batch_factor: our losses are so many times the reference's named ones (whose gradients are of the multiple).
    """
    losses, selection = run(case, scene)
    if "robust" in case and "expected_gt_index" in case:
        robust = case.tensor("robust")
        expected = case.tensor("expected_gt_index").long()
        found = selection.assignment.gt_index
        wrong = (found.clamp(min=-1) != expected.clamp(min=-1)) & robust
        assert not wrong.any(), f"{case.item}/{case.name}: {int(wrong.sum())} assigned differently"
        if not case.params["all_robust"] and not torch.equal(found.clamp(min=-1), expected.clamp(min=-1)):
            return  # another, equally right choice changes the losses
    assert set(losses) == set(scene.names), f"{case.item}/{case.name}: {sorted(losses)}"
    for term, key in scene.names.items():
        case.assert_close(losses[term] / batch_factor, key, **LOSS)
    for name, leaf in scene.raw.items():
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert_gradient(case, gradient, f"expected_grad_{name}")


def leaves(case: Case, *names: str) -> dict[str, Tensor]:
    """Raw outputs that gradients are asked of."""
    return {name: case.tensor(name).requires_grad_() for name in names}


# Where the reference's name of a box loss is ours with other parameters.
BOX_LOSSES = {"GIoULoss": "giou", "DIoULoss": "diou", "CIoULoss": "ciou", "IoULoss": "iou", "L1Loss": "l1"}


def box_loss(loss: Mapping[str, Any], weight: str = "loss.regression_weight") -> tuple[str, ...]:
    """The overrides that choose the box loss of a reference's configuration."""
    kind = BOX_LOSSES[loss["type"]]
    if loss.get("mode") == "square":
        kind = "iou_square"
    return (f"loss/regression={kind}", f"{weight}={loss['loss_weight']}")


def deltas_coder(case: Case) -> StandardizedDeltaCoder:
    coder = case.params.get("bbox_coder") or case.params["bbox_head"]["bbox_coder"]
    return StandardizedDeltaCoder(coder["target_means"], coder["target_stds"])


def check_atss(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas", "centerness_logits")
    scene = Scene(
        "atss",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"], raw["centerness_logits"].squeeze(-1)),
        overrides=(f"assigner.topk={case.params['topk']}", *box_loss(case.params["bbox_head"]["loss_bbox"])),
        branch=Branch.CENTERNESS,
        names={
            "classification": "expected_loss_cls",
            "regression": "expected_loss_bbox",
            "centerness": "expected_loss_centerness",
        },
    )
    check(case, scene)


PAIR = {"classification": "expected_loss_cls", "regression": "expected_loss_bbox"}


def check_paa(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas", "iou_logits")
    params = case.params
    scene = Scene(
        "paa",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"], raw["iou_logits"].squeeze(-1)),
        overrides=(
            f"assigner.topk={params['topk']}",
            f"assigner.pos_iou_thr={params['pos_iou_thr']}",
            f"assigner.covariance_type={params['covariance_type']}",
            *box_loss(params["bbox_head"]["loss_bbox"]),
        ),
        branch=Branch.IOU,
        names={**PAIR, "iou": "expected_loss_iou"},
    )
    check(case, scene)


def check_gfl(case: Case) -> None:
    raw = leaves(case, "cls_logits", "dist_logits")
    reg_max, head = case.params["reg_max"], case.params["bbox_head"]
    scene = Scene(
        "gfl",
        candidates_of(case, case.tensor("anchors")),
        StrideDistanceCoder(reg_max - 0.1),
        raw,
        Outputs(raw["cls_logits"], raw["dist_logits"]),
        overrides=(
            f"assigner.topk={case.params['topk']}",
            *box_loss(head["loss_bbox"]),
            f"loss.terms.distribution.weight={head['loss_dfl']['loss_weight'] / 4}",
        ),
        bins=reg_max + 1,
        names={**PAIR, "distribution": "expected_loss_dfl"},
    )
    check(case, scene)


def check_vfnet(case: Case) -> None:
    raw = leaves(case, "cls_logits", "ltrb_px", "ltrb_refined_px")
    head = case.params["bbox_head"]
    scene = Scene(
        "vfnet",
        candidates_of(case, case.tensor("anchors")),
        LinearCoder(normalize_by_size=False),
        raw,
        Outputs(raw["cls_logits"], raw["ltrb_px"], refined=raw["ltrb_refined_px"]),
        overrides=(
            f"assigner.topk={case.params['topk']}",
            *(() if case.params["use_vfl"] else ("loss/classification=focal",)),
            *box_loss(head["loss_bbox"]),
            f"loss.terms.refined.weight={head['loss_bbox_refine']['loss_weight']}",
        ),
        refines=True,
        names={**PAIR, "refined": "expected_loss_bbox_rf"},
    )
    check(case, scene)


def check_tood(case: Case) -> None:
    """The reference's head gives probabilities and boxes in strides; ours, logits and distances in strides."""
    raw = leaves(case, "cls_prob", "boxes_in_strides")
    params = case.params
    candidates = candidates_of(case, case.tensor("anchors"))
    place = candidates.centers / case.tensor("strides").unsqueeze(-1)
    boxes = raw["boxes_in_strides"]
    scene = Scene(
        "tood",
        candidates,
        StrideDistanceCoder(),
        raw,
        Outputs(raw["cls_prob"].logit(), torch.cat((place - boxes[..., :2], boxes[..., 2:] - place), -1)),
        overrides=(
            f"assigner.topk={params['topk']}",
            f"assigner.alpha={params['alpha']}",
            f"assigner.beta={params['beta']}",
            f"warmup.assigner.topk={params['topk_initial']}",
            *box_loss(params["bbox_head"]["loss_bbox"]),
            f"warmup.loss.regression_weight={params['bbox_head']['loss_bbox']['loss_weight']}",
        ),
        progress=params["epoch"] / 12,  # the reference's 1x schedule
        names=PAIR,
    )
    check(case, scene)


def check_rtmdet(case: Case) -> None:
    raw = leaves(case, "cls_logits", "ltrb_px")
    names = ("topk", "soft_center_radius", "iou_weight")
    scene = Scene(
        "rtmdet",
        candidates_of(case, squares(case.tensor("points"), case.tensor("strides"))),
        LinearCoder(normalize_by_size=False),
        raw,
        Outputs(raw["cls_logits"], raw["ltrb_px"]),
        overrides=(
            *(f"assigner.{name}={case.params[name]}" for name in names),
            *box_loss(case.params["bbox_head"]["loss_bbox"]),
        ),
        geometry=Geometry.POINTS,
        names=PAIR,
    )
    check(case, scene)


def check_fcos(case: Case) -> None:
    raw = leaves(case, "cls_logits", "ltrb", "centerness_logits")
    params = case.params
    radius = params["center_sample_radius"] if params["center_sampling"] else "null"
    ranges = [[low, high] for low, high in params["regress_ranges"]]
    scene = Scene(
        "fcos",
        candidates_of(case, squares(case.tensor("points"), case.tensor("strides"))),
        StrideDistanceCoder() if params["norm_on_bbox"] else LinearCoder(normalize_by_size=False),
        raw,
        Outputs(raw["cls_logits"], raw["ltrb"], raw["centerness_logits"].squeeze(-1)),
        detector="tiny_fcos",
        overrides=(
            f"assigner.center_sampling_radius={radius}",
            f"assigner.regress_ranges={ranges}",
            *box_loss(params["bbox_head"]["loss_bbox"]),
        ),
        geometry=Geometry.POINTS,
        branch=Branch.CENTERNESS,
        names={**PAIR, "centerness": "expected_loss_centerness"},
    )
    check(case, scene)


def check_retinanet(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas")
    scene = Scene(
        "retinanet",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"]),
        overrides=(
            *(f"matching.{name}={case.params[name]}" for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")),
            *box_loss(case.params["bbox_head"]["loss_bbox"]),
        ),
        names=PAIR,
    )
    check(case, scene)


def check_ssd(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas")
    scene = Scene(
        "ssd",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"]),
        detector="tiny_ssd",
        overrides=(
            f"sampler.neg_pos_ratio={case.params['neg_pos_ratio']}",
            f"smooth_l1_beta={case.params['smoothl1_beta']}",
        ),
        softmax=True,
        names=PAIR,
    )
    check(case, scene)


def check_yolox(case: Case) -> None:
    """Megvii's and mmdetection's. Both count a box's offset from the corner of its cell, here from the middle."""
    raw = leaves(case, "cls_logits", "box_raw", "obj_logits")
    params, strides = case.params, case.tensor("strides")
    mmdet = "bbox_head" in params
    points = case.tensor("points")
    middle = squares(points + strides.unsqueeze(-1) / 2 if _at_corners(points, strides) else points, strides)
    if mmdet:
        overrides = (
            "assigner.flavour=mmdet",
            *(f"assigner.{n}={params[n]}" for n in ("center_radius", "candidate_topk", "iou_weight", "cls_weight")),
            *box_loss(params["bbox_head"]["loss_bbox"]),
        )
    else:
        kind = {"iou": "iou_square", "giou": "giou"}[params["iou_loss_type"]]
        overrides = (f"loss/regression={kind}", f"loss.regression_weight={params['reg_weight']}")
    names = {
        "classification": "expected_loss_cls",
        "regression": "expected_loss_bbox" if mmdet else "expected_loss_iou",
        "objectness": "expected_loss_obj",
        **({"l1": "expected_loss_l1"} if params["use_l1"] else {}),
    }
    scene = Scene(
        "yolox",
        candidates_of(case, middle),
        DeltaCoder(clip=100.0),
        raw,
        Outputs(
            raw["cls_logits"],
            raw["box_raw"] - torch.tensor([0.5, 0.5, 0, 0]),
            raw["obj_logits"].squeeze(-1),
        ),
        detector="tiny_yolox",
        overrides=overrides,
        geometry=Geometry.POINTS,
        branch=Branch.OBJECTNESS,
        classify_positives_only=True,
        progress=1.0 if params["use_l1"] else 0.0,
        names=names,
    )
    check(case, scene)


def _at_corners(points: Tensor, strides: Tensor) -> bool:
    return bool((points % strides.unsqueeze(-1) == 0).all())


def check_yolov8(case: Case) -> None:
    raw = leaves(case, "box_logits", "cls_logits")
    params = case.params
    reg_max = params["reg_max"]
    flavour = "ultralytics_8_3" if case.item.endswith("8_3") else "ultralytics"
    gains = params["gains"]
    overrides = [
        f"assigner.flavour={flavour}",
        f"assigner.topk={params['tal_topk']}",
        f"assigner.alpha={params['alpha']}",
        f"assigner.beta={params['beta']}",
        f"assigner.topk2={params.get('tal_topk2') or 'null'}",
        f"loss.regression_weight={gains['box']}",
        f"loss.classification_weight={gains['cls']}",
        f"loss.terms.distribution.weight={gains['dfl'] / 4}",
    ]
    if params.get("class_weights"):
        overrides.append(f"loss.classification.column_weight={params['class_weights']}")
    plain = reg_max == 1  # four distances instead of distributions, with an L1 loss in the place of theirs
    if plain:
        overrides.append("loss.terms.distribution.loss._target_=harness.losses.regression.image_l1.ImageL1Loss")
    scene = Scene(
        "yolov8",
        candidates_of(case, squares(case.tensor("points"), case.tensor("strides"))),
        StrideDistanceCoder(None if plain else reg_max - 1 - 0.01),
        raw,
        Outputs(raw["cls_logits"], raw["box_logits"]),
        overrides=tuple(overrides),
        geometry=Geometry.POINTS,
        bins=0 if plain else reg_max,
        names={
            "classification": "expected_loss_cls",
            "regression": "expected_loss_box",
            "distribution": "expected_loss_dfl",
        },
    )
    check(case, scene, batch_factor=params["num_images"])


def check_yolov3(case: Case) -> None:
    raw = leaves(case, "pred_raw")
    params, pred = case.params, raw["pred_raw"]
    scene = Scene(
        "yolov3",
        candidates_of(case, case.tensor("anchors")),
        YOLOv3Coder(),
        raw,
        Outputs(pred[..., 5:], pred[..., :4], pred[..., 4]),
        detector="tiny_yolox",
        overrides=(
            *(f"assigner.{name}={params[name]}" for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")),
            f"loss.classification.smoothing={params['one_hot_smoother']}",
        ),
        branch=Branch.OBJECTNESS,
        classify_positives_only=True,
        names={
            "classification": "expected_loss_cls",
            "regression": "expected_loss_xy",
            "objectness": "expected_loss_conf",
            "size": "expected_loss_wh",
        },
    )
    check(case, scene)


def sampled(case: Case) -> tuple[str, ...]:
    """ISR-P's and CARL's overrides, and the beta of smooth L1."""
    train = case.params.get("train_cfg", case.params)
    return (
        *(f"sampler.{name}={train['isr'][name]}" for name in ("k", "bias")),
        *(f"loss.terms.carl.{name}={train['carl'][name]}" for name in ("k", "bias")),
    )


PISA = {**PAIR, "carl": "expected_loss_carl"}


def check_pisa_retinanet(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas")
    scene = Scene(
        "pisa_retinanet",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"]),
        overrides=(
            *(f"matching.{name}={case.params[name]}" for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")),
            f"smooth_l1_beta={case.params['bbox_head']['loss_bbox']['beta']}",
            *sampled(case),
        ),
        names=PISA,
    )
    check(case, scene)


def check_pisa_ssd(case: Case) -> None:
    raw = leaves(case, "cls_logits", "box_deltas")
    scene = Scene(
        "pisa_ssd",
        candidates_of(case, case.tensor("anchors")),
        deltas_coder(case),
        raw,
        Outputs(raw["cls_logits"], raw["box_deltas"]),
        detector="tiny_ssd",
        overrides=(
            f"sampler.of.neg_pos_ratio={case.params['neg_pos_ratio']}",
            f"smooth_l1_beta={case.params['smoothl1_beta']}",
            *sampled(case),
        ),
        softmax=True,
        names=PISA,
    )
    check(case, scene)


@dataclass(frozen=True)
class Given:
    """The reference's own assignment and slot weights, as the assigner and as the sampler that ISR-P wraps."""

    gt_index: Tensor
    weight: Tensor
    needs: frozenset[Need] = frozenset()
    add_gt_as_proposals: bool = False

    def assignment(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        return Assignment(self.gt_index, torch.zeros_like(self.weight))

    def __call__(self, truth: GroundTruth, candidates: Candidates, *chosen: Any, **known: Any) -> Any:
        if not chosen:
            return self.assignment(truth, candidates)
        index = torch.arange(self.weight.shape[-1]).expand(self.weight.shape)
        return SamplingResult(index, self.gt_index >= 0, self.weight, in_order=True)


def check_pisa_roi(case: Case) -> None:
    """Proposals, their objects and their weights are given: what is left of the recipe is ISR-P, CARL and the pair.

    The reference's fault: it numbers objects across images such that two of different images can share a number, and
    ranks their positives together. ISR-P here ranks image by image. It keeps the sum of the positives' class losses
    whatever the ranks, so that the values agree there, too; only the gradient of the class scores depends on the ranks.
    """
    params, raw = case.params, leaves(case, "cls_score", "bbox_pred")
    rois, classes = case.tensor("rois"), case.params["num_classes"]
    image = rois[:, 0].long()
    sizes = torch.bincount(image, minlength=params["num_images"]).tolist()

    def by_image(values: Tensor, padding: float) -> Tensor:
        return pad_sequence(list(values.split(sizes)), batch_first=True, padding_value=padding)

    agnostic = params["reg_class_agnostic"]
    # The reference has no deltas for the background, which is its last column.
    deltas = raw["bbox_pred"] if agnostic else torch.nn.functional.pad(raw["bbox_pred"], (0, 4))
    given = Given(by_image(case.tensor("roi_gt_index"), IGNORED), by_image(case.tensor("label_weights_in"), 0.0))
    loss = params["loss_bbox"]
    overrides = [f"loss/regression={'l1' if loss['type'] == 'L1Loss' else 'smooth_l1'}", *sampled(case)]
    overrides += [f"smooth_l1_beta={loss['beta']}"] if "beta" in loss else []
    pieces = stage("pisa", "tiny_rcnn", tuple(overrides))
    assert isinstance(pieces.sampler, ISRPSampler)
    assert pieces.loss is not None
    head = HeadSpec(
        stage="roi",
        num_classes=classes,
        columns=classes + 1,
        first_column=0,
        background=classes,
        activation=Activation.SOFTMAX,
        geometry=Geometry.PROPOSALS,
        coder=deltas_coder(case),
        class_specific=not agnostic,
        has_levels=False,
    )
    sampler = ISRPSampler(given, pieces.sampler.k, pieces.sampler.bias)
    criterion = Criterion(head, given, sampler, pieces.loss)
    boxes = by_image(rois[:, 1:], 0.0)
    candidates = Candidates(boxes, given.weight > 0)
    outputs = Outputs(by_image(raw["cls_score"], 0.0), by_image(deltas, 0.0))
    selection = criterion.select(truth_of(case), candidates, outputs.detach)
    losses = criterion(outputs.take(selection.sample), selection)
    torch.stack(list(losses.values())).sum().backward()
    for term, key in PISA.items():
        case.assert_close(losses[term], key, **LOSS)
    assert_gradient(case, raw["bbox_pred"].grad, "expected_grad_bbox_pred")
    if params["gt_id_collisions"] == 0 and params["all_robust"]:
        assert_gradient(case, raw["cls_score"].grad, "expected_grad_cls_score")


def check_yolov7(case: Case) -> None:
    """ComputeLoss and ComputeLossOTA: raw maps ``(image, anchor, y, x, 5 + K)`` for every level.

    Three accidents of the reference are no targets. A cell that is matched several times keeps the objectness target
    that was written last; here it is that of the object which the assignment keeps: where there are such cells the
    objectness and its gradient are left out. ComputeLossOTA lists such a cell as several equal rows and leaves it to
    :func:`torch.topk` which of them an object takes: there the matched cells are compared. And it scales objects by the
    height of the image in x as well, which chooses other cells unless images are square: there only finite losses are
    demanded.
    """
    params = case.params
    images, strides, anchors = params["num_images"], params["strides"], case.tensor("anchors_px")
    raw = leaves(case, *(f"pred_l{level}" for level in range(len(strides))))
    rows, boxes = [], []
    for pred, stride, sizes in zip(raw.values(), strides, anchors, strict=True):
        rows.append(pred.permute(0, 2, 3, 1, 4).reshape(images, -1, pred.shape[-1]))
        y, x = torch.meshgrid(torch.arange(pred.shape[2]), torch.arange(pred.shape[3]), indexing="ij")
        center = (torch.stack((x, y), -1).reshape(-1, 1, 2) + 0.5) * stride
        boxes.append(torch.cat((center - sizes / 2, center + sizes / 2), -1).reshape(-1, 4))
    pred, hyp = torch.cat(rows, 1), params["hyp"]
    focal = hyp["fl_gamma"]
    ota = case.item.endswith("ota")
    scene = Scene(
        "yolov7" if ota else "yolov5",
        candidates_of(case, torch.cat(boxes)),
        YOLOv5Coder(),
        raw,
        Outputs(pred[..., 5:], pred[..., :4], pred[..., 4]),
        detector="tiny_yolox",
        overrides=(
            f"assigner.anchor_t={hyp['anchor_t']}",
            f"loss.classification_weight={hyp['cls'] / params['num_classes']}",
            f"loss.regression_weight={hyp['box']}",
            f"loss.branch.weight={hyp['obj']}",
            f"loss.branch.level_weights={params['balance']}",
            f"loss.branch.focal_gamma={focal}",
            *(("loss/classification=focal", f"loss.classification.gamma={focal}") if focal else ()),
        ),
        branch=Branch.OBJECTNESS,
        classify_positives_only=True,
        names={
            "classification": "expected_loss_cls",
            "regression": "expected_loss_box",
            "objectness": "expected_loss_obj",
        },
    )
    losses, selection = run(case, scene)
    assert all(torch.isfinite(value) for value in losses.values())
    if not params["all_robust"] or "reference_fault" in params:
        return
    matched = torch.zeros_like(selection.assignment.positive)
    begin = 0
    for level, pred_map in enumerate(raw.values()):
        image, anchor, y, x = case.tensor(f"expected_l{level}_rows")[:, :4].unbind(-1)
        matched[image, begin + (y * pred_map.shape[3] + x) * pred_map.shape[1] + anchor] = True
        begin += pred_map[0, ..., 0].numel()
    assert torch.equal(selection.assignment.positive, matched), f"{case.item}/{case.name}: other cells are matched"
    several = params["duplicate_cells"] > 0
    if ota and several:
        return
    for term, key in scene.names.items():
        if not (several and term == "objectness"):
            case.assert_close(losses[term] / images, key, **LOSS)
    for name, leaf in raw.items():
        assert leaf.grad is not None
        key = f"expected_grad_{name}"
        if not several:
            assert_gradient(case, leaf.grad, key)
            continue
        columns = [0, 1, 2, 3, *range(5, leaf.shape[-1])]
        expected = case.tensor(key)[..., columns]
        largest = float(expected.abs().max())
        torch.testing.assert_close(leaf.grad[..., columns], expected, rtol=1e-3, atol=1e-6 * largest)


CHECKS: dict[str, Callable[[Case], None]] = {
    "recipe_retinanet": check_retinanet,
    "recipe_fcos_mmdet": check_fcos,
    "recipe_atss": check_atss,
    "recipe_gfl": check_gfl,
    "recipe_tood_warmup": check_tood,
    "recipe_tood_aligned": check_tood,
    "recipe_paa": check_paa,
    "recipe_rtmdet": check_rtmdet,
    "recipe_ssd": check_ssd,
    "recipe_yolox_mmdet": check_yolox,
    "recipe_yolox_mmdet_l1": check_yolox,
    "recipe_yolox_own": check_yolox,
    "recipe_yolox_own_l1": check_yolox,
    "recipe_vfnet": check_vfnet,
    "recipe_pisa_retinanet": check_pisa_retinanet,
    "recipe_pisa_ssd": check_pisa_ssd,
    "recipe_pisa_roi": check_pisa_roi,
    "recipe_yolov3_mmdet": check_yolov3,
    "recipe_yolov7_loss": check_yolov7,
    "recipe_yolov7_ota": check_yolov7,
    "recipe_yolov8_ultralytics_regmax1": check_yolov8,
    "recipe_yolov8_ultralytics": check_yolov8,
    "recipe_yolov8_ultralytics_8_3": check_yolov8,
}
