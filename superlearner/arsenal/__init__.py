"""The arsenal: one declared operation is a REST route, an OpenAPI entry, a command, a Python method and a page.

>>> from superlearner.arsenal import Params, Result, operation
"""

from __future__ import annotations

from superlearner.arsenal.access import Access, Caller
from superlearner.arsenal.audit import Hidden
from superlearner.arsenal.operation import AwaitedCluster, Field, Operation, Params, Result, operation
from superlearner.arsenal.ops import Ops
from superlearner.arsenal.registry import Registry, shared

__all__ = [
    "Access",
    "AwaitedCluster",
    "Caller",
    "Field",
    "Hidden",
    "Operation",
    "Ops",
    "Params",
    "Registry",
    "Result",
    "operation",
    "shared",
]
