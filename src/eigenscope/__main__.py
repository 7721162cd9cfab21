"""`python -m eigenscope`."""

import sys

from eigenscope.cli import main

sys.exit(main())
