"""The library under the book *How Deep Networks Behave*.

Importing the package loads nothing heavy: the command line and the site build read the book with it
and need neither torch nor matplotlib. Import the module that does what you want::

    from lessons_lib import data, models, training
"""

import os as _os

__version__ = "0.1.0"


def default_threads() -> int:
    """Threads of one process unless LESSONS_THREADS says otherwise.

    Lesson scale takes one. Its tensors are small and its ensembles batched: a second thread gains little on an
    idle machine, and beside a busy neighbour the two wait for each other and run up to twenty times slower
    than one. Paper scale takes every core.
    """
    lesson = (_os.environ.get("LESSONS_SCALE") or "lesson") == "lesson"
    return 1 if lesson else _os.cpu_count() or 1


# OpenMP and BLAS read these once, as they load: this has to come before numpy and torch.
# A number that the caller gives OpenMP alone is for BLAS too: torch would go by that of MKL.
_threads = _os.environ.get("LESSONS_THREADS") or _os.environ.get("OMP_NUM_THREADS") or str(default_threads())
#: What the caller left open and was set here, for this process; a kernel that it starts decides for itself.
OWN_THREADS = {
    _name: _threads
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if _name not in _os.environ
}
_os.environ.update(OWN_THREADS)
