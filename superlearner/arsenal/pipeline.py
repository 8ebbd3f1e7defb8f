"""The one way in which every face carries out an operation: each line of a declaration is enforced here.

Access, parameters, confirmation, time limit, the work itself, its result, and the event that tells of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from superlearner.arsenal import audit
from superlearner.arsenal.access import Caller, may
from superlearner.arsenal.arguments import validated
from superlearner.arsenal.failures import foreseen
from superlearner.arsenal.operation import AwaitedCluster, Operation
from superlearner.arsenal.refusals import Forbidden, NotConfirmed, OperationTimeout
from superlearner.core.history import Event
from superlearner.errors import ClusterClosed, SuperlearnerError

logger = logging.getLogger(__name__)
#: Seconds that the event of a call may take; the call's own outcome does not depend on it.
NOTE_TIMEOUT = 2.0

_readers = audit.Readers()


async def carry_out(
    operation: Operation,
    cluster: AwaitedCluster,
    given: Mapping[str, Any],
    caller: Caller,
    *,
    confirm: bool = False,
    strict: bool = True,
) -> BaseModel | None:
    """Carry out an operation for somebody and return its result.

    Parameters
    ----------
    operation
        Which.
    cluster
        A manager whose methods are awaited.
    given
        The parameters, which are not checked yet.
    caller
        Who asks, and what they may do.
    confirm
        Whether they have said that they mean it.
    strict
        Whether the parameters were JSON, so that a text is no number.

    Raises
    ------
    SuperlearnerError
        It was refused, has failed or took too long; what nobody has foreseen is logged and becomes `Unexpected`.
    """
    began = time.perf_counter()
    parameters: dict[str, Any] = {}
    outcome = "ok"
    try:
        _check_access(operation, caller)
        params = validated(operation, given, strict=strict)
        parameters = audit.redacted(params)
        _check_confirmed(operation, confirm=confirm)
        return await _within_limits(operation, cluster, params)
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except Exception as error:
        known = foreseen(error, operation.name, operation.errors)
        outcome = known.code
        if known is error:
            raise
        raise known from None
    finally:
        await _note(operation, cluster, caller, time.perf_counter() - began, outcome, parameters)


async def work_of(
    operation: Operation, cluster: AwaitedCluster, given: Mapping[str, Any]
) -> BaseModel | None:
    """Do the work alone, for another process that has done the rest of `carry_out`."""
    return await _within_limits(operation, cluster, validated(operation, given, strict=True))


def _check_access(operation: Operation, caller: Caller) -> None:
    if not may(caller.access, operation.access):
        raise Forbidden(
            f"{operation.name} asks for {operation.access} access, and {caller.name} has {caller.access}; "
            "nothing was done."
        )


def _check_confirmed(operation: Operation, *, confirm: bool) -> None:
    if operation.dangerous and not confirm:
        raise NotConfirmed(operation.name)


async def _within_limits(
    operation: Operation, cluster: AwaitedCluster, params: BaseModel
) -> BaseModel | None:
    limit = asyncio.timeout(operation.timeout)
    try:
        async with limit:
            made = await operation.execute(cluster, params)
    except TimeoutError as error:
        if limit.expired() and not isinstance(error, SuperlearnerError):
            raise OperationTimeout(operation.name, operation.timeout, reads=operation.reads) from None
        raise
    if operation.result is None:
        return None
    try:
        return operation.result.model_validate(made)
    except ValidationError as error:  # a bug of the operation, not of the caller
        raise RuntimeError(f"{operation.name} returned what it does not declare: {error}") from None


async def _note(
    operation: Operation,
    cluster: AwaitedCluster,
    caller: Caller,
    seconds: float,
    outcome: str,
    parameters: Mapping[str, Any],
) -> None:
    """Leave the event of a call in the cluster's log; that this fails is logged and changes nothing else."""
    calls = 1
    if operation.reads and outcome == "ok":
        calls = _readers.due((caller.name, caller.face, operation.name), time.monotonic())
        if not calls:
            return
    told = audit.detail(
        operation, caller, seconds=seconds, outcome=outcome, parameters=parameters, calls=calls
    )
    try:
        async with asyncio.timeout(NOTE_TIMEOUT):
            await cluster.note(Event(audit.KIND, name=operation.name, detail=told))
    except ClusterClosed:
        pass  # nobody is there any more whom it could be told
    except (SuperlearnerError, TimeoutError, OSError) as error:
        why = str(error) or f"the control plane has not taken it within {NOTE_TIMEOUT:g} s"
        logger.warning("superlearner: the event of %s could not be told: %s", operation.name, why)
