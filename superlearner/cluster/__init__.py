"""Dask-facing and thin: hooks become events of `superlearner.core.control`, its instructions become effects.

``plane`` runs in the scheduler, ``agent`` on each node, ``channel`` carries calls between them and the
clients (``wire`` says in which bytes, ``faulty`` how that is broken on purpose), ``daemon`` and ``local`` run a
cluster on this machine, ``face`` is what a person holds.
"""
