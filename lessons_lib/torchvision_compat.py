"""Import torchvision where its compiled operators do not load.

torchvision's wheel is built for one build of torch. Beside another one, a CPU-only torch for instance, its
extension does not load, and the import stops at "operator torchvision::nms does not exist". The book
uses data sets and transforms only, and those need none of the compiled operators.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

# The operators that torchvision describes on import without asking whether they are there.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a schema lives as long as its Library


def import_torchvision(submodule: str = "") -> ModuleType:
    """``torchvision``, or ``torchvision.<submodule>``: ``import_torchvision("datasets")``.

    Where the compiled operators load, this is a plain import. Where they do not, their names are declared
    first; calling one then still fails, with torch's own message that it has no implementation here.
    """
    name = f"torchvision.{submodule}" if submodule else "torchvision"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error) or _libraries:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return importlib.import_module(name)
