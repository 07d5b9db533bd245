"""`python -m radclear`: the `radclear` command where the script is not on the path."""

import sys

from radclear.cli import main

sys.exit(main())
