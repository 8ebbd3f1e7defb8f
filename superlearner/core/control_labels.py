"""Who keeps whom away from a node: the labels of the sandboxes there, indexed.

A sandbox stays away from those whose labels include all of its ``anti_affinity``, and they stay away from
it, whoever came first: else the order of two fail-overs would decide whether the rule holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from superlearner.core.spec import SandboxSpec

#: A label with its value.
Pair = tuple[str, str]


class Labels:
    """Node -> what the sandboxes are, and whom they avoid, that it carries or that are on their way to it.

    >>> labels = Labels()
    >>> labels.add("alpha", SandboxSpec("db-1", labels={"app": "db"}))
    >>> labels.neighbour(SandboxSpec("db-2", anti_affinity={"app": "db"}), "alpha")
    'db-1'
    """

    def __init__(self) -> None:
        #: (node, pair) -> the sandboxes that have this label.
        self._having: dict[tuple[str, Pair], dict[str, SandboxSpec]] = {}
        #: (node, pair) -> the sandboxes whose anti-affinity names this label.
        self._avoiding: dict[tuple[str, Pair], dict[str, SandboxSpec]] = {}

    def add(self, node: str, spec: SandboxSpec) -> None:
        """Note that a node carries a sandbox."""
        for index, pairs in ((self._having, spec.labels), (self._avoiding, spec.anti_affinity)):
            for pair in pairs.items():
                index.setdefault((node, pair), {})[spec.id] = spec

    def remove(self, node: str, spec: SandboxSpec) -> bool:
        """Forget a sandbox of a node; tell whether it may have kept another away."""
        for index, pairs in ((self._having, spec.labels), (self._avoiding, spec.anti_affinity)):
            for pair in pairs.items():
                found = index[node, pair]
                del found[spec.id]
                if not found:
                    del index[node, pair]
        return bool(spec.labels or spec.anti_affinity)

    def neighbour(self, spec: SandboxSpec, node: str) -> str | None:
        """Return a sandbox on a node which `spec` must not be beside, or None."""
        for pair in spec.anti_affinity.items():
            for id, other in self._having.get((node, pair), {}).items():
                if id != spec.id and includes(other.labels, spec.anti_affinity):
                    return id
            break  # whoever has all of them has the first one
        for pair in spec.labels.items():
            for id, other in self._avoiding.get((node, pair), {}).items():
                if id != spec.id and includes(spec.labels, other.anti_affinity):
                    return id
        return None

    def entries(self) -> set[tuple[str, str]]:
        """Return each (node, sandbox) that is known here."""
        return {
            (node, id)
            for index in (self._having, self._avoiding)
            for (node, _), ids in index.items()
            for id in ids
        }


def includes(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether `labels` have all that is `wanted`.

    >>> includes({"app": "db", "tier": "back"}, {"app": "db"}), includes({}, {"app": "db"})
    (True, False)
    """
    return wanted.items() <= labels.items()
