"""Planned moves: rest, start elsewhere with the next epoch, flip the registry, stop the old instance.

Until the flip the old instance stays the owner, so every failure rolls back to it. When the owner itself
is lost while the new instance starts, the new one is adopted: it starts from the very last state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from superlearner.core.control_events import (
    ControlEvent,
    InstanceStarted,
    InstanceStopped,
    MoveRequested,
    Quiesced,
)
from superlearner.core.control_instructions import Answer, QuiesceInstance, Refuse, ResumeInstance
from superlearner.core.control_life import Life
from superlearner.core.control_records import Move, Work
from superlearner.core.control_starts import explain, start_instance
from superlearner.core.placement import Placement
from superlearner.core.snapshots import Migration, MoveInfo
from superlearner.errors import MoveFailed, NoPlacement, SuperlearnerError, in_words


class Moves(Life):
    """The steps of a move, and every way back."""

    def move_of(self, sandbox: str) -> MoveInfo | None:
        """Return how far a sandbox's planned move is; None when there is none."""
        work = self._work.get(sandbox)
        move = None if work is None else work.move
        if move is None:
            return None
        if not move.epoch:
            return MoveInfo(move.source, move.target, "quiesce", move.asked_at)
        return MoveInfo(move.source, move.target, "start", move.quiesced_at, move.size)

    def _ask_move(self, work: Work, event: MoveRequested) -> None:
        """Begin a move, or refuse it while nothing has changed."""
        error: SuperlearnerError
        here = str(work.record.node)
        placement = Placement(None, ())
        if work.phase != "running":
            error = MoveFailed(work.id, f"it is {work.status}")
        elif event.node == here:
            error = MoveFailed(work.id, f"it runs on {here!r} already")
        elif event.node != "auto" and event.node not in self.nodes:
            error = self._not_there(event.node)
        else:
            wanted = None if event.node == "auto" else event.node
            avoid = {here: "it runs there now"}
            placement = self._place(work.record.spec, wanted, avoid)
            error = NoPlacement(work.id, placement.refusals)
        if placement.node is None:
            work.setback = in_words(error)
            self._say(Refuse(event.cause, error))
            return
        work.move = Move(event.cause, here, placement.node, event.at)
        self._by_target.add(placement.node, work.id)
        self._reserve(work, placement.node)
        self._set(work, "quiescing")
        detail = {"target": placement.node, **explain(placement)}
        self._note("sandbox_moving", event, work, detail=detail)
        record = work.record
        (target,) = self._addresses((placement.node,))
        self._say(
            QuiesceInstance(work.id, here, str(record.address), record.epoch, event.cause, target=target)
        )

    def _at_rest(self, work: Work, event: Quiesced) -> None:
        """The old instance is at rest: start the new one."""
        move = self._move(work)
        target = self.nodes[move.target]
        work.highest += 1
        move.epoch, move.quiesced_at, move.size = work.highest, event.at, event.size
        move.peers = self._wish(work, target.name)
        self._set(work, "moving")
        self._note("sandbox_copying", event, work, detail={"target": move.target, "bytes": move.size})
        # The old instance has just stored its last checkpoint on its own node, whether or not that is told yet.
        own = self._addresses((move.source,))
        sources = own + tuple(pair for pair in self._sources(work, None) if pair not in own)
        told = self._addresses(move.peers)
        saved = (event.epoch, event.seq)
        self._say(
            start_instance(work, target, move.epoch, sources, told, event, expects=saved, on_trial=True)
        )

    def _flip(self, work: Work, event: InstanceStarted) -> None:
        """The new instance serves: it is the owner from now on, and the old one is stopped."""
        move = self._move(work)
        old_epoch, old_pid = work.record.epoch, work.record.pid
        self._take_over(work)
        migration = _migration(work, move, event.at)
        self._set(work, "running", pid=event.pid, moved=migration)
        detail = migration.as_detail() | {"old_pid": old_pid}
        self._note("sandbox_moved", event, work, detail=detail)
        self._want_peers(work, self._wish(work, move.target, move.peers))
        self._tell_peers(work)
        work.moved_from = (old_epoch, event.at)
        self._stop(work, old_epoch, move.source, event, f"moved to {move.target}")
        work.move = None
        self._say(Answer(move.cause, migration))

    def _complete_move(self, work: Work, event: InstanceStopped) -> None:
        """Tell, once the old instance has ended, how many calls had come to it meanwhile: they have gone on."""
        moved, left = work.record.moved, work.moved_from
        if left is None or left[0] != event.epoch:
            return
        work.moved_from = None
        if moved is None or moved.epoch != work.record.epoch:
            return  # it has been started again since, and the move is history
        phases = {**moved.phases, "resume": event.at - left[1]}
        moved = replace(moved, phases=phases, buffered=event.buffered)
        self._set(work, None, moved=moved)
        self._note("move_completed", event, work, detail=moved.as_detail())

    def _take_over(self, work: Work) -> None:
        """Make the target the owner's node, with the epoch that was started there."""
        move = self._move(work)
        self._disown(work)
        self._by_target.remove(move.target, work.id)
        self._by_node.add(move.target, work.id)
        work.placed_at = move.asked_at
        address = self.nodes[move.target].address
        self._set(work, None, node=move.target, address=address, epoch=move.epoch, pid=None)
        work.told = None  # its trial ends when it is told

    def _adopt(self, work: Work, event: ControlEvent, reason: Any) -> None:
        """The owner is gone while the new instance starts: the start goes on, as a restart on the target."""
        move = self._move(work)
        self._take_over(work)
        self._set(work, "starting", reason=reason)
        self._want_peers(work, self._wish(work, move.target, move.peers))
        detail = {"note": f"its instance on {move.source!r} was lost during the move, which goes on"}
        self._note("sandbox_restarting", event, work, reason=reason, detail=detail)

    def _roll_back(self, work: Work, event: ControlEvent, reason: Any, *, resume: bool = True) -> None:
        """Give the move up. `resume`: the old instance lives and serves again."""
        move = self._move(work)
        work.setback = in_words(reason)
        if move.epoch:
            self._stop(work, move.epoch, move.target, event, "the move was rolled back")
        self._by_target.remove(move.target, work.id)
        self._release(work, move.target, move.asked_at)
        work.move = None
        work.early.clear()
        self._set(work, "running")
        record = work.record
        self._note("move_rolled_back", event, work, reason=reason, detail={"target": move.target})
        if resume:
            self._say(
                ResumeInstance(work.id, str(record.node), str(record.address), record.epoch, event.cause)
            )
        self._say(Refuse(move.cause, MoveFailed(work.id, reason, resume)))
        if resume and work.waiters:
            self._reboot(work, event)  # somebody asked for a restart during the move

    def _end_adopted(self, work: Work, event: ControlEvent, reason: str | None) -> None:
        """Tell who asked for a move whose owner was lost on the way how it came out; None is well."""
        move = work.move
        if move is not None:
            work.move = None
            if reason is None:
                migration = _migration(work, move, event.at)
                self._set(work, None, moved=migration)
                self._say(Answer(move.cause, migration))
            else:
                self._say(Refuse(move.cause, MoveFailed(work.id, reason, stays=False)))

    def _move(self, work: Work) -> Move:
        assert work.move is not None
        return work.move


def _migration(work: Work, move: Move, at: float) -> Migration:
    phases = {"quiesce": move.quiesced_at - move.asked_at, "start": at - move.quiesced_at}
    return Migration(
        work.id, move.source, move.target, move.epoch, phases, bytes=move.size, pause=at - move.asked_at
    )
