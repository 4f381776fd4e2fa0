"""Builders of the detectors that ``conf/detector`` offers."""
