"""Error rates, power and cost of the adaptive sweep, simulated: ``python -m harness.statistics.simulation``.

Prints the tables of ``docs/statistics.md``. The procedures are those of ``harness.statistics.standing``, written for
many repetitions at once; a test checks that both give the same verdicts on the same scores.
"""
