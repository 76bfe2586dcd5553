"""`python -m tidegate_standin --port P [--account 111111111111 ...]`."""

import sys

from tidegate_standin.process import run

if __name__ == "__main__":
    sys.exit(run())
