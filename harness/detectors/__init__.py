"""Detectors with any assigner, sampler and loss: torchvision's, small ones, Cascade R-CNN, YOLOX."""

from harness.detectors.equip import equip

__all__ = ["equip"]
