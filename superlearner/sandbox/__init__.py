"""One sandbox on one node: the warm fork server, the host process with its limits, and the instance.

Read ``instance`` for what a sandbox does when things die, ``host`` for what runs inside it, ``forkserver``
for how its OS process is made and unmade. Importing this package imports nothing else: the fork server
and every host pay for what it pulls in.
"""
