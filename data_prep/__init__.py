"""Data sets from raw logs; see docs/preparation.md."""

import sys

from dlrm_mtl.extras import PREPARE, end_unless_installed

# So is sys.argv while `python -m data_prep.MODULE` imports this package; the module itself imports the extra's modules.
# Other programs encode raw rows without them.
if sys.argv[:1] == ["-m"] and any(part.startswith("data_prep") for part in sys.orig_argv):
    end_unless_installed("data_prep", PREPARE)
