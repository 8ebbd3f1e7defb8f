"""What is on which node, in an order that is the same in every run."""

from __future__ import annotations

from typing import Any


class Index:
    """Node -> keys, in the order of their coming (a set's order would differ from run to run)."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[Any, None]] = {}

    def add(self, node: str, key: Any) -> None:
        """Put `key` under `node`."""
        self._keys.setdefault(node, {})[key] = None

    def remove(self, node: str, key: Any) -> None:
        """Take `key` from `node`."""
        keys = self._keys[node]
        del keys[key]
        if not keys:
            del self._keys[node]

    def at(self, node: str) -> list[Any]:
        """Return the keys of `node`, as a list that may be walked while the index changes."""
        return list(self._keys.get(node, ()))

    def pairs(self) -> list[tuple[str, Any]]:
        """Return all (node, key), sorted."""
        return sorted((node, key) for node, keys in self._keys.items() for key in keys)
