"""The image samplers: how often each training image is seen. One published method per file."""

from harness.data.image_samplers.class_aware import ClassAwareSampler
from harness.data.image_samplers.hard_replay import HardReplaySampler
from harness.data.image_samplers.interface import ImageSampler
from harness.data.image_samplers.repeat_factor import RepeatFactorSampler
from harness.data.image_samplers.uniform import UniformImageSampler

__all__ = ["ClassAwareSampler", "HardReplaySampler", "ImageSampler", "RepeatFactorSampler", "UniformImageSampler"]
