"""The samplers: which assigned candidates train, with what weight. One published method per file.

A sampler ranks: it gives each candidate a priority, and the first positives and the first negatives fill the slots that
:mod:`~harness.samplers.quota` grants (:mod:`~harness.samplers.ranking`).
"""
