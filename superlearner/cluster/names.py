"""What the nodes of a local cluster are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from superlearner.core.faults import RESERVED
from superlearner.core.spec import validate_id, validate_labels
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


#: How many nodes, their names, or their names with the labels of each.
NodesWanted = int | Sequence[str] | Mapping[str, Mapping[str, str]]


def node_labels(nodes: NodesWanted) -> dict[str, dict[str, str]]:
    """Return the labels of those of `nodes` that are given any.

    >>> node_labels({"left": {"zone": "a"}, "right": {}}), node_labels(2)
    ({'left': {'zone': 'a'}}, {})
    """
    if not isinstance(nodes, Mapping):
        return {}
    labels = {name: validate_labels(given, f"labels of node {name!r}") for name, given in nodes.items()}
    return {name: given for name, given in labels.items() if given}


def node_names(nodes: NodesWanted) -> list[str]:
    """Return the names of `nodes`, given as a number, as names, or as names with their labels.

    >>> node_names(2), node_names(["left", "right"]), node_names({"left": {"zone": "a"}})
    (['alpha', 'beta'], ['left', 'right'], ['left'])
    """
    if isinstance(nodes, Mapping):
        nodes = list(nodes)
    if isinstance(nodes, int) and not isinstance(nodes, bool):
        if not 1 <= nodes <= len(GREEK):
            raise InvalidSpec(f"nodes={nodes} must be 1 to {len(GREEK)}, or a list of names.")
        return GREEK[:nodes]
    if isinstance(nodes, str) or not isinstance(nodes, Sequence) or not nodes:
        raise InvalidSpec(f'nodes={nodes!r} must be a number or a list of names, such as ["alpha", "beta"].')
    names = [node_id(name) for name in nodes]
    if len(set(names)) < len(names):
        raise InvalidSpec(f"nodes={list(nodes)!r} names a node twice.")
    return names


def node_id(name: str) -> str:
    """Return `name` if a node may have it: the other ends of links are called ``scheduler`` and ``client``."""
    if validate_id(name, "node name") in RESERVED:
        raise InvalidSpec(
            f"A node cannot be called {name!r}: that names another part of the cluster. Choose another."
        )
    return name
