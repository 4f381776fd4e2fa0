"""``python -m harness``: see :mod:`harness.app.command_line`."""

from harness.app.command_line import main

if __name__ == "__main__":
    main()
