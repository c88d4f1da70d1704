"""Benchmark codecs on a data set: `python benchmarking.py --help`."""

import sys

from codeczoo.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
