"""``python -m bandsplit``, which torchrun and other launchers need."""

from bandsplit.cli import main

if __name__ == "__main__":
    main()
