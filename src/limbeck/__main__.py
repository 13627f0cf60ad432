"""`python -m limbeck` is the command `limbeck`."""

import sys

from limbeck.cli import main

sys.exit(main())
