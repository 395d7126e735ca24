"""The test suite. Its processes share the machine's cores: linear algebra gets one each."""

import os

# Read when numpy is loaded, which this package precedes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
