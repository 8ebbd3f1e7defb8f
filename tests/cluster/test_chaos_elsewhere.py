"""Faults on a Dask cluster that somebody else has started."""

from __future__ import annotations

import pytest
from apps import shop
from cluster_kit import dask_by_hand, wait_for_nodes

import superlearner as sl
from superlearner.errors import Unsupported


@pytest.mark.slow
def test_where_the_transport_cannot_be_broken_a_sentence_says_which_one_can(tmp_path):
    with dask_by_hand(tmp_path, ["left", "right"]) as address, sl.connect(address) as cluster:
        wait_for_nodes(cluster, 2)
        with pytest.raises(Unsupported, match=r"nothing was broken.*--protocol faulty"):
            cluster.chaos.cut("left", "right")
        with pytest.raises(Unsupported, match="nothing was paused"):
            cluster.chaos.pause_node("left")
        assert cluster.chaos.heal() == []


@pytest.mark.slow
def test_where_the_transport_allows_it_links_can_be_broken(tmp_path):
    preload = ("--preload", "superlearner.cluster.preload")
    with (
        dask_by_hand(
            tmp_path,
            ["left", "right"],
            scheduler=("--protocol", "faulty", *preload),
            worker=(*preload, "--preload-nanny", preload[1]),
        ) as address,
        sl.connect(address) as cluster,
    ):
        wait_for_nodes(cluster, 2)
        sandbox = cluster.create_sandbox("shop", shop(), node="left")
        with cluster.chaos.cut("left", "client"), pytest.raises(sl.CallTimeout):
            sandbox.call("counter", "increment", timeout=0.3)
        assert sandbox.call("counter", "value", timeout=5) == 1
