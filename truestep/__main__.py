"""``python -m truestep``."""

import sys

from truestep.cli import main

if __name__ == "__main__":
    sys.exit(main())
