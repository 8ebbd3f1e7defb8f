"""What processes do for each other through a cluster: offered by name, asked for, gone with whoever offers it."""

from __future__ import annotations

import pytest
from cluster_kit import awaiting

import superlearner as sl
from superlearner.cluster.offers import NotOffered, Offer, OfferTaken
from superlearner.errors import NoConnection


async def shout(body: bytes) -> bytes:
    return body.upper()


async def whisper(body: bytes) -> bytes:
    return body.lower()


SHOUT = Offer.new("speak", "POST /speak", b"{}")


@pytest.fixture
def other(cluster):
    """Another client of the same cluster."""
    with sl.connect(cluster.address, security=cluster.security) as connected:
        yield connected


def add(cluster, offer, work=shout, **options):
    cluster.run(cluster.offers.add(offer, work, **options))


def ask(cluster, offer, body=b"Hello"):
    return cluster.run(cluster.offers.ask(offer, body))


def listed(cluster, known=None):
    return cluster.run(cluster.offers.listed(known))


def test_what_is_offered_is_carried_out_for_others_until_it_is_withdrawn(cluster, other):
    before, none = listed(other)
    assert none == []
    add(cluster, SHOUT)
    mark, found = listed(other, before)
    assert found == [SHOUT]
    assert listed(other, mark) is None
    assert (ask(other, SHOUT), ask(cluster, SHOUT)) == (b"HELLO", b"HELLO")
    cluster.run(cluster.offers.withdraw("speak"))
    cluster.run(cluster.offers.withdraw("speak"))  # twice is as good as once
    assert listed(other, mark)[1] == []
    with pytest.raises(NotOffered, match="nothing was done"):
        ask(other, SHOUT)


def test_one_that_is_offered_anew_does_not_answer_for_the_earlier_one(cluster, other):
    add(cluster, SHOUT)
    anew = Offer.new("speak", "GET /speak", b"{}")
    add(cluster, anew, whisper)
    assert ask(other, anew) == b"hello"
    with pytest.raises(NotOffered):
        ask(other, SHOUT)
    cluster.run(cluster.offers.withdraw("speak"))


def test_a_name_and_a_place_belong_to_one_client_which_may_be_followed_by_another(cluster, other):
    add(cluster, SHOUT)
    mine = Offer.new("speak", "GET /elsewhere", b"{}")
    with pytest.raises(OfferTaken, match="replace=True"):
        add(other, mine, whisper)
    with pytest.raises(OfferTaken, match="another path"):
        add(other, Offer.new("talk", SHOUT.place, b"{}"), whisper, replace=True)
    assert ask(other, SHOUT) == b"HELLO"
    add(other, mine, whisper, replace=True)
    assert ask(cluster, mine) == b"hello"
    cluster.run(cluster.offers.withdraw("speak"))  # it is not the first one's any more
    assert listed(cluster)[1] == [mine]
    with awaiting(cluster, "operation_removed") as removed:
        other.close()
        assert (removed().name, listed(cluster)[1]) == ("speak", [])


def test_who_waits_for_a_client_that_goes_away_is_told(cluster, other):
    async def leave(body: bytes) -> bytes:
        await other.awaited().close()
        return b"never"

    add(other, SHOUT, leave)
    with pytest.raises(NoConnection, match="has ended") as caught:
        ask(cluster, SHOUT)
    assert not caught.value.definite


@pytest.mark.slow
def test_it_is_offered_again_to_a_scheduler_that_was_killed_and_came_back():
    with sl.Cluster(nodes=1) as cluster, sl.connect(cluster.address, security=cluster.security) as other:
        add(cluster, SHOUT)
        with awaiting(other, "operation_registered", 60) as again:
            cluster.chaos.kill_scheduler()
            assert again().name == "speak"
        assert ask(other, SHOUT) == b"HELLO"


def test_without_a_cluster_there_is_nobody_who_could_ask():
    with sl.LocalSandboxManager() as manager:
        add(manager, SHOUT)
        assert listed(manager)[1] == []
        with pytest.raises(NotOffered):
            ask(manager, SHOUT)
        manager.run(manager.offers.withdraw("speak"))


def test_a_dual_manager_offers_to_its_cluster(cluster):
    with sl.DualSandboxManager(cluster.address, security=cluster.security) as manager:
        add(manager, SHOUT)
        assert ask(cluster, SHOUT) == b"HELLO"
        assert listed(manager)[1] == [SHOUT]
        manager.run(manager.offers.withdraw("speak"))
        assert listed(cluster)[1] == []
