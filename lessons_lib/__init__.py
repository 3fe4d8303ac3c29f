"""The library under the book *How Deep Networks Behave*.

Importing the package loads nothing heavy: the command line and the site build read the book with it
and need neither torch nor matplotlib. Import the module that does what you want::

    from lessons_lib import data, models, training
"""

import os as _os

__version__ = "0.1.0"

# The book's tensors are small and its ensembles batched: one thread is about as fast as two on an idle machine, and up to
# twenty times faster than two when a neighbour is busy. OpenMP and BLAS read these variables once, as
# they load, so this has to happen before numpy or torch is imported. LESSONS_THREADS overrides it.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    _os.environ.setdefault(_name, _os.environ.get("LESSONS_THREADS", "1"))
