"""``python -m harness.statistics.simulation [repetitions]``: the tables of ``docs/statistics.md``."""

from __future__ import annotations

import argparse
import sys

from harness.statistics.simulation import assumptions, tables

TABLES = {
    "False verdicts of the adaptive sweep, goal=baseline": tables.error_table,
    "The t-test looked at again": tables.repeated_t_table,
    "The advised workflow": tables.advised_table,
    "Races, goal=best": tables.race_table,
    "Runs for a power of 90 %": tables.power_table,
    "Seeds until the same": tables.same_table,
    "Choice of g": tables.choice_of_g_table,
    "Skewness of the differences": assumptions.skewness_table,
    "A seed that is filled in later": assumptions.filled_seed_table,
}


def main() -> None:
    """Prints all tables as markdown."""
    parser = argparse.ArgumentParser(prog="python -m harness.statistics.simulation", description=__doc__)
    parser.add_argument("repetitions", nargs="?", type=int, default=2_000)
    repetitions = parser.parse_args().repetitions
    for title, table in TABLES.items():
        print(f"### {title}\n\n{tables.markdown(table(repetitions))}\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("harness.statistics.simulation: stopped by SIGINT; the tables printed so far are whole", file=sys.stderr)
        raise SystemExit(130) from None
