"""`python -m codeczoo`: the command line, where the console script is not on the path."""

import sys

from codeczoo.cli import main

sys.exit(main())
