"""Real networks: a Dask cluster in network namespaces, whose links the kernel cuts, behaves as it does over the
transport that is broken on purpose.

It needs root, `ip`, and a kernel with network namespaces, veth and bridges, and is never part of another run::

    pytest -m network tests/cluster/test_networks.py
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import psutil
import pytest
from cluster_kit import dask_by_hand, end, start_worker
from network_kit import Network, Refused, Remote, why_not

NODES = ("alpha", "beta", "gamma")
LEASE = 2.0
#: Seconds that TCP may take after a cut to try again: it waits longer each time.
AGAIN = 40.0
VALUE = "cluster.call('shop/counter', 'value', timeout=15, idempotent=True)"
EPOCH = "cluster.sandbox('shop').info().epoch"
INCREMENT = "cluster.call('shop/counter', 'increment', timeout={})"

pytestmark = pytest.mark.network


@pytest.fixture(scope="module", autouse=True)
def possible():
    if (reason := why_not()) is not None:
        pytest.skip(reason)


class Place(NamedTuple):
    """A cluster with a client on a machine of its own, and one on the machine of alpha."""

    network: Network
    ann: Remote
    bob: Remote
    #: Starts a node's worker again.
    start: Callable[[str], subprocess.Popen[str]]


@contextlib.contextmanager
def cluster(folder, **settings: str) -> Iterator[Place]:
    # A busy machine takes its time to start so many processes.
    patience = {"DASK_SUPERLEARNER__CONNECT_TIMEOUT": "60"}
    settings = {"DASK_SUPERLEARNER__LEASE": str(LEASE), **patience, **settings}
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        network.open(["scheduler", *NODES, "ann"])
        where = lambda name: (network.address(name), network.within(name))
        address = stack.enter_context(dask_by_hand(folder, NODES, where=where, env=settings))
        clients = []
        for name in ("ann", "alpha"):
            clients.append(Remote(network, name, address, settings))
            stack.callback(clients[-1].close)
        clients[0]("wait_for_nodes(3)")
        yield Place(network, *clients, partial(start_worker, folder, address, where=where, env=settings))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("network")) as found:
        yield found


@pytest.fixture
def counter(place):
    """The OS process of a sandbox on alpha whose stored state is 3."""
    place.ann("cluster.create_sandbox('shop', shop(), node='alpha').id")
    place.ann("cluster.sandbox('shop').replace_state('counter', 3)")
    place.ann("cluster.sandbox('shop').checkpoint()")
    assert place.bob(VALUE) == 3
    yield psutil.Process(place.ann("cluster.sandbox('shop').info().pid"))
    place.ann("cluster.destroy_sandbox('shop')")


@pytest.mark.parametrize("how", ["silence", "unplug"])
def test_a_node_that_is_cut_off_is_replaced_after_its_lease_and_fences_itself(place, counter, how):
    network, ann, bob, _ = place
    epoch = ann(EPOCH)
    ann("mark()")
    getattr(network, how)("alpha")
    began = time.time()
    assert ann(VALUE) == 3, "the client fails over"
    assert ann(EPOCH) == epoch + 1
    assert ann("cluster.sandbox('shop').info().node") in {"beta", "gamma"}
    suspected = ann("wait('node_suspected', 1, node='alpha')")
    lost = ann("wait('node_lost', 1, node='alpha')")
    # It was last heard of up to a quarter of its lease before the cut.
    assert LEASE / 4 <= suspected - began <= LEASE
    assert LEASE * 3 / 4 <= lost - began <= LEASE + 1.0, "not before its lease has surely ended"
    counter.wait(5)  # its old instance has ended by itself, though nobody could tell it
    with pytest.raises(Refused, match=r"^(CallTimeout|NoConnection|StaleEpoch)"):
        bob(INCREMENT.format(1.0))  # the minority does not answer
    network.plug("alpha")
    for kind in ("node_joined", "node_fenced"):
        ann(f"wait({kind!r}, {AGAIN}, node='alpha')")
    assert ann("[node.status for node in cluster.nodes()]") == ["up"] * 3
    assert bob(INCREMENT.format(AGAIN)) == 4, "and the call that was refused has not happened"
    assert ann(VALUE) == 4


def test_without_a_majority_nothing_is_decided_and_everything_resumes_when_the_links_are_back(place, counter):
    network, ann, *_ = place
    ann("cluster.create_sandbox('bank', shop(), node='beta').id")
    ann("cluster.sandbox('bank').replace_state('counter', 7)")
    ann("cluster.sandbox('bank').checkpoint()")
    ann("mark()")
    for name in ("beta", "gamma"):
        network.silence(name)
    ann("wait('sandbox_lost', 15, sandbox='bank')")
    assert ann("cluster.status().quorum") is False
    assert ann(INCREMENT.format(5.0)) == 4, "what holds its lease goes on"
    with pytest.raises(Refused, match=r"^NoQuorum"):
        ann("cluster.create_sandbox('mail', shop())")
    with pytest.raises(Refused, match=r"^NoQuorum"):
        ann("cluster.migrate_sandbox('shop')")
    for name in ("beta", "gamma"):
        network.plug(name)
    ann(f"wait('sandbox_restarted', {AGAIN}, sandbox='bank')")
    for name in ("beta", "gamma"):
        ann(f"wait('node_joined', {AGAIN}, node={name!r})")
    assert ann("cluster.call('bank/counter', 'value', timeout=15)") == 7
    assert ann("cluster.status().quorum") is True
    ann("cluster.destroy_sandbox('bank')")


def test_a_link_that_is_cut_holds_up_only_those_who_use_it(place, counter):
    network, ann, bob, _ = place
    epoch = ann(EPOCH)
    network.cut("ann", "alpha")
    with pytest.raises(Refused, match=r"^CallTimeout"):
        ann(INCREMENT.format(1.0))
    assert bob(VALUE) == 3
    assert ann("[node.status for node in cluster.nodes()]") == ["up"] * 3
    network.heal("ann", "alpha")
    # The call that timed out was on its way: it is carried out before the next one.
    assert ann(INCREMENT.format(AGAIN)) == 5
    assert ann(EPOCH) == epoch


@pytest.mark.timeout(300)
def test_a_node_that_was_cut_off_until_every_connection_broke_has_ended_and_may_be_started_again(tmp_path):
    # TCP gives up after 12 s here (in Dask: after 30 s). A Dask worker that has lost its scheduler ends, with its
    # nanny: whoever looks after its machine starts the next one.
    with cluster(tmp_path, DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP="12s") as place:
        ann, network = place.ann, place.network
        ann("cluster.create_sandbox('shop', shop(), node='alpha').id")
        ann("cluster.sandbox('shop').replace_state('counter', 3)")
        ann("cluster.sandbox('shop').checkpoint()")
        worker = psutil.Process(ann("[node.pid for node in cluster.nodes() if node.name == 'alpha'][0]"))
        nanny = worker.parent()
        ann("mark()")
        network.silence("alpha")
        assert ann(VALUE) == 3
        psutil.wait_procs([worker, nanny], timeout=90)
        assert not worker.is_running()
        assert ann(INCREMENT.format(5.0)) == 4
        network.plug("alpha")
        again = place.start("alpha")
        try:
            ann("wait('node_joined', 60, node='alpha')")
            ann("cluster.migrate_sandbox('shop', 'alpha')")
            assert ann(EPOCH) == 3
            assert place.bob(INCREMENT.format(60.0)) == 5
        finally:
            end([again])
