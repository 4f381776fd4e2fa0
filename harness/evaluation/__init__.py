"""Accuracy of detections: COCO and VOC metrics, TIDE errors, calibration, and the command that computes them."""
