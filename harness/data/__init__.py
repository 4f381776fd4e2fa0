"""Data sources, checks, augmentation and loading.

One factory per source (``shapes.shapes``, ``voc.voc``, ``coco.coco``) returns a ``splits.Splits``; ``loading`` turns it
into batches whose order is a pure function of the seed and the step.
"""
