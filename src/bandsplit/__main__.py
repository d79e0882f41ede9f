"""Entry point of ``bandsplit`` and of ``python -m bandsplit``, which torchrun and other launchers need."""

import sys

from bandsplit.core.interrupt import finish, watch
from bandsplit.core.memory import share_heap


def main() -> None:
    """Run the command line, with signals watched before it is loaded and until the process ends."""
    watch()
    share_heap()
    try:
        from bandsplit.cli import main as cli

        cli.main()
    except KeyboardInterrupt:  # while the command line is loaded
        sys.exit("stopped")
    finally:
        finish()


if __name__ == "__main__":
    main()
