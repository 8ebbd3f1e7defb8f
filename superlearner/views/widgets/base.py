"""What all widgets share: a `view` trait of plain data, replaced whole, and its twins in text and SVG."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import traitlets


def asset(*names: str) -> str:
    """Return the text of package files beside this module, joined; widgets carry it themselves, offline."""
    here = files(__package__)
    return "\n".join(here.joinpath(name).read_text(encoding="utf-8") for name in names)


class Picture(anywidget.AnyWidget):  # type: ignore[misc]
    """A widget that shows one frozen view.

    It keeps no state of the cluster: `view` is what one of the pure functions of `superlearner.views`
    returned, as plain data, and is replaced whole. Only the `Live` updater's one thread writes to it.
    """

    view = traitlets.Dict().tag(sync=True)
    #: The key of what the reader has selected; empty for nothing.
    selected = traitlets.Unicode("").tag(sync=True)

    def text(self) -> str:
        """Return what is shown as text."""
        return str(self.view.get("text", ""))

    def svg(self) -> str | None:
        """Return what is shown as a still picture, None where text says it better."""
        return None

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        data = data | {"text/plain": self.text()}
        picture = self.svg()
        return (data | {"image/svg+xml": picture} if picture else data), metadata
