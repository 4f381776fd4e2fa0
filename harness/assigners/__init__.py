"""The assigners: which candidates are positive, negative or ignored. One published method per file."""

from harness.assigners.atss import ATSSAssigner
from harness.assigners.center_region import CenterRegionAssigner
from harness.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from harness.assigners.fcos import FCOSAssigner
from harness.assigners.grid import GridAssigner
from harness.assigners.hungarian import HungarianAssigner
from harness.assigners.max_iou import MaxIoUAssigner
from harness.assigners.nwd import NWDAssigner
from harness.assigners.ota import OTAAssigner
from harness.assigners.paa import PAAAssigner
from harness.assigners.point import PointAssigner
from harness.assigners.rfla import RFLAAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.ssd import SSDMatcher
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.assigners.topk_hungarian import TopkHungarianAssigner
from harness.assigners.torchvision import TorchvisionMatcher
from harness.assigners.uniform import UniformAssigner
from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.assigners.yolov7_ota import YOLOv7OTAAssigner

__all__ = [
    "ATSSAssigner",
    "CenterRegionAssigner",
    "DynamicSoftLabelAssigner",
    "FCOSAssigner",
    "GridAssigner",
    "HungarianAssigner",
    "MaxIoUAssigner",
    "NWDAssigner",
    "OTAAssigner",
    "PAAAssigner",
    "PointAssigner",
    "RFLAAssigner",
    "SSDMatcher",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
    "TopkHungarianAssigner",
    "TorchvisionMatcher",
    "UniformAssigner",
    "YOLORatioAssigner",
    "YOLOv7OTAAssigner",
]
