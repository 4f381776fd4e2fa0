"""Augmentation of training samples, one choice per file, built on torchvision.transforms.v2."""
