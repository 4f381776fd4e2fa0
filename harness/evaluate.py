"""``python -m harness.evaluate``: see :mod:`harness.evaluation.command`."""

from harness.evaluation.command import main

if __name__ == "__main__":
    raise SystemExit(main())
