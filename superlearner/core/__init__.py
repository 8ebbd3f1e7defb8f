"""Pure decisions: standard library only; no I/O, no clock, no asyncio, no Dask.

Time and chance arrive in the event. Read ``spec`` for the words, ``restart`` and ``strategy`` for the
rules of supervision, ``control`` for the machine that runs a cluster.
"""
