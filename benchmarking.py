"""Benchmark codecs on a data set: `python benchmarking.py --help`."""

import sys

from codeczoo.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
