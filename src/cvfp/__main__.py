"""`python -m cvfp`."""

import sys

from cvfp.cli.main import main

sys.exit(main())
