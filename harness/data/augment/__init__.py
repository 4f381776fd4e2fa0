"""Augmentation of training samples, one choice a file, built on torchvision.transforms.v2."""
