"""`python -m perf.gpu_check`."""

import sys

from perf.gpu_check.run import main

if __name__ == "__main__":
    sys.exit(main())
