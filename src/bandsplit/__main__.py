"""``python -m bandsplit``: the command line."""

from bandsplit.cli import main

if __name__ == "__main__":
    main()
