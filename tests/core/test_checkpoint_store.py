"""Versions, and the store that refuses what is stale or spoilt."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion, choose
from superlearner.errors import CheckpointFailed, InvalidSpec, StaleEpoch


def version(epoch, seq, payload=b"state", sandbox="shop"):
    return CheckpointVersion.of(sandbox, epoch, seq, payload)


def test_the_newest_versions_are_kept_newest_first():
    store = CheckpointStore()
    for epoch, seq in ((1, 2), (1, 1), (2, 1), (2, 2)):
        store.put(version(epoch, seq), keep=3)
    assert [v.version for v in store.newest("shop")] == [(2, 2), (2, 1), (1, 2)]
    assert (len(store), store.size, store.sandboxes(), store.epoch("shop")) == (3, 15, ["shop"], 2)


def test_an_epoch_below_the_highest_is_refused():
    store = CheckpointStore()
    store.put(version(3, 1))
    with pytest.raises(StaleEpoch) as caught:
        store.put(version(2, 9))
    assert (caught.value.epoch, caught.value.current) == (2, 3)


def test_a_late_version_of_the_same_epoch_takes_its_place_behind_the_newer_ones():
    store = CheckpointStore()
    store.put(version(1, 5))
    store.put(version(1, 4))
    assert [v.seq for v in store.newest("shop")] == [5, 4]


def test_storing_a_version_twice_changes_nothing():
    store = CheckpointStore()
    store.put(version(1, 1))
    store.put(version(1, 1))
    assert len(store) == 1


@pytest.mark.parametrize("spoil", [{"payload": b"other"}, {"size": 4}, {"checksum": 0}])
def test_a_spoilt_version_is_refused(spoil):
    with pytest.raises(CheckpointFailed, match="does not match its checksum"):
        CheckpointStore().put(replace(version(1, 1), **spoil))


def test_keeping_nothing_is_refused():
    with pytest.raises(InvalidSpec, match="keep=0"):
        CheckpointStore().put(version(1, 1), keep=0)


def test_a_late_write_does_not_bring_a_dropped_sandbox_back():
    store = CheckpointStore()
    store.put(version(2, 1))
    assert store.drop("shop") == 1
    with pytest.raises(StaleEpoch):
        store.put(version(2, 2))
    assert store.newest("shop") == []
    store.put(version(3, 1))
    assert store.epoch("shop") == 3


def test_a_drop_up_to_an_epoch_keeps_what_is_newer():
    store = CheckpointStore()
    store.put(version(1, 1))
    store.put(version(2, 1))
    assert store.drop("shop", epoch=1) == 1
    assert [v.version for v in store.newest("shop")] == [(2, 1)]


def test_a_drop_fences_epochs_that_this_store_has_not_seen():
    store = CheckpointStore()
    assert store.drop("shop", epoch=4) == 0
    assert store.drop("shop", epoch=2) == 0
    with pytest.raises(StaleEpoch):
        store.put(version(4, 1))


def test_dropping_what_is_unknown_leaves_no_trace():
    store = CheckpointStore()
    assert store.drop("shop") == 0
    store.put(version(1, 1))


def test_only_so_many_dropped_sandboxes_are_remembered():
    store = CheckpointStore(fences=1)
    for sandbox in ("a", "b"):
        store.put(version(5, 1, sandbox=sandbox))
        store.drop(sandbox)
    assert (store.epoch("a"), store.epoch("b")) == (0, 6)


def test_to_forget_a_sandbox_forgets_its_epochs_too():
    store = CheckpointStore()
    store.put(version(5, 1))
    store.forget("shop")
    store.put(version(1, 1))
    assert store.epoch("shop") == 1


def test_a_bad_checkpoint_falls_back_to_the_one_before():
    bad = replace(version(2, 1), payload=b"spoilt")
    assert choose([version(1, 1), bad, version(1, 2)]) == version(1, 2)
    assert choose([bad]) is None


def test_the_payload_is_not_shown():
    assert "state" not in repr(version(1, 1))


@settings(max_examples=60, deadline=None)
@given(
    puts=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=25),
    keep=st.integers(1, 3),
)
def test_the_store_holds_the_newest_of_what_it_accepted_within_its_bound(puts, keep):
    store, accepted = CheckpointStore(), set()
    for epoch, seq in puts:
        try:
            store.put(version(epoch, seq), keep)
        except StaleEpoch:
            assert epoch < max(accepted)[0]
        else:
            accepted.add((epoch, seq))
    held = [v.version for v in store.newest("shop")]
    assert len(held) <= keep
    assert held == sorted(held, reverse=True)
    assert held[:1] == sorted(accepted, reverse=True)[:1]
