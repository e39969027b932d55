"""`python -m kdlib` is the command `kdlib`."""

import sys

from kdlib.cli import main

sys.exit(main())
