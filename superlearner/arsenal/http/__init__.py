"""The arsenal over HTTP: alone (``superlearner serve``), or in a Jupyter server."""
