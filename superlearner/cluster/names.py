"""What the nodes of a local cluster are called."""

from __future__ import annotations

from collections.abc import Sequence

from superlearner.core.spec import validate_id
from superlearner.errors import InvalidSpec

#: The names that nodes get when only their number is given.
GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]


def node_names(nodes: int | Sequence[str]) -> list[str]:
    """Return the names of `nodes`, given as a number or as names.

    >>> node_names(2), node_names(["left", "right"])
    (['alpha', 'beta'], ['left', 'right'])
    """
    if isinstance(nodes, int) and not isinstance(nodes, bool):
        if not 1 <= nodes <= len(GREEK):
            raise InvalidSpec(f"nodes={nodes} must be 1 to {len(GREEK)}, or a list of names.")
        return GREEK[:nodes]
    if isinstance(nodes, str) or not isinstance(nodes, Sequence) or not nodes:
        raise InvalidSpec(f'nodes={nodes!r} must be a number or a list of names, such as ["alpha", "beta"].')
    names = [validate_id(name, "node name") for name in nodes]
    if len(set(names)) < len(names):
        raise InvalidSpec(f"nodes={list(nodes)!r} names a node twice.")
    return names
