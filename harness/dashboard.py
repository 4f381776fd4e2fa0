"""``python -m harness.dashboard``: see :mod:`harness.tracking.dashboard`."""

from harness.tracking.dashboard import main

if __name__ == "__main__":
    raise SystemExit(main())
