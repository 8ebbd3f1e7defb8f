"""Specs are refused at construction, with the option's name and the nearest right spelling."""

from __future__ import annotations

import pytest

from superlearner.core.childspec import ChildSpec, SupervisorSpec, refuse_unknown
from superlearner.errors import InvalidSpec


def spec(**options):
    return ChildSpec(**({"id": "a", "start": int} | options))


def test_the_defaults_are_those_of_otp():
    child, sup = spec(), SupervisorSpec()
    assert (child.restart, child.shutdown, child.significant, child.type) == (
        "permanent",
        5.0,
        False,
        "worker",
    )
    assert (sup.strategy, sup.max_restarts, sup.max_seconds, sup.auto_shutdown) == (
        "one_for_one",
        3,
        5.0,
        "never",
    )
    assert (sup.restart, sup.shutdown, sup.type, sup.kind) == (
        "permanent",
        "infinity",
        "supervisor",
        "static",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 3}, "start=3 cannot run"),
        ({"type": "wroker"}, "type='wroker' is not known: did you mean 'worker'"),
        ({"id": None}, "id=None"),
        ({"id": []}, "must be hashable"),
        ({"name": ""}, "name=''"),
        ({"name": "a/b"}, "without '/'"),
        ({"restart": "permanant"}, "did you mean 'permanent'"),
        ({"restart": 3}, "Write one of 'permanent'"),
        ({"shutdown": "brutal-kill"}, "did you mean 'brutal_kill'"),
        ({"shutdown": -1}, "seconds, 0 or more"),
        ({"shutdown": True}, "seconds, 0 or more"),
        ({"shutdown": None}, "seconds, 0 or more"),
        ({"shutdown": False}, "seconds, 0 or more"),
        ({"significant": 1}, "must be True or False"),
        ({"significant": True}, "restart='transient'"),
    ],
)
def test_a_child_that_cannot_be_is_refused(options, message):
    with pytest.raises(InvalidSpec) as error:
        spec(**options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"children": 3}, "must be a list"),
        ({"children": [int]}, "write child(int)"),
        ({"children": ["x"]}, "write child('x')"),
        ({"children": [spec(), spec()]}, "Two children have the id 'a'"),
        ({"children": [spec(restart="transient", significant=True)]}, "auto_shutdown='any_significant'"),
        ({"strategy": "one_for_al"}, "did you mean 'one_for_all'"),
        ({"auto_shutdown": "any"}, "auto_shutdown='any' is not known"),
        ({"kind": "dynamc"}, "did you mean 'dynamic'"),
        ({"max_restarts": -1}, "max_restarts=-1"),
        ({"max_restarts": True}, "max_restarts=True"),
        ({"max_restarts": 1.5}, "max_restarts=1.5"),
        ({"max_seconds": 0}, "max_seconds=0"),
        ({"kind": "dynamic", "children": [spec()]}, "start_child()"),
        ({"kind": "dynamic", "max_children": -1}, "max_children=-1"),
        ({"kind": "dynamic", "strategy": "one_for_all"}, "strategy='one_for_one' alone"),
        ({"kind": "dynamic", "auto_shutdown": "any_significant"}, "auto_shutdown='never' alone"),
        ({"max_children": 3}, "kind='dynamic' alone"),
        ({"partitions": 3}, "kind='partition' alone"),
        ({"kind": "partition", "partitions": 3}, "exactly one child"),
        ({"kind": "partition", "children": [spec(name="n")], "partitions": 3}, "has no name of its own"),
        ({"kind": "partition", "children": [spec()]}, "partitions=None"),
    ],
)
def test_a_supervisor_that_cannot_be_is_refused(options, message):
    with pytest.raises(InvalidSpec) as error:
        SupervisorSpec(**options)
    assert message in str(error.value)


def test_what_is_right_is_taken():
    nested = SupervisorSpec([spec(id=1), spec(id=2, restart="transient")], id="pool", name="pool")
    assert SupervisorSpec((nested,)).children == (nested,)
    assert SupervisorSpec(kind="dynamic").max_children is None
    assert SupervisorSpec(kind="dynamic", max_children=0).max_children == 0
    assert SupervisorSpec([spec()], kind="partition", partitions=2).partitions == 2
    SupervisorSpec([spec(restart="temporary", significant=True)], auto_shutdown="all_significant")


def test_an_unknown_option_is_named_with_the_nearest_right_one():
    refuse_unknown("child", {}, ["id"])
    with pytest.raises(InvalidSpec, match="has no option 'nmae': did you mean 'name'"):
        refuse_unknown("child", {"nmae": 1}, ["id", "name"])
    with pytest.raises(InvalidSpec, match="has no option 'zzz': The options are id, name"):
        refuse_unknown("child", {"zzz": 1}, ["id", "name"])
