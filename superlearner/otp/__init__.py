"""OTP on asyncio: processes, GenServer, Supervisor, Task, links, monitors, names; no Dask.

Read ``genserver`` for what you write, ``supervisor`` for how it is kept running, ``verbs`` for what a
process can do, ``runtime`` for how it is run.
"""

from superlearner.otp.application import as_application
from superlearner.otp.genserver import GenServer
from superlearner.otp.messages import Down, Exit, ExitSignal, Ignore, NoReply, Reply, Stop, Timeout
from superlearner.otp.runtime import Runtime
from superlearner.otp.supervisor import Supervisor, child, supervisor
from superlearner.otp.task import Task
from superlearner.otp.verbs import (
    call,
    cancel_timer,
    cast,
    count_children,
    delete_child,
    demonitor,
    exit_,
    link,
    monitor,
    receive,
    register,
    reply,
    restart_child,
    self_,
    send,
    send_after,
    spawn,
    start_child,
    terminate_child,
    trap_exit,
    unlink,
    unregister,
    whereis,
    which_children,
)

__all__ = [
    "Down",
    "Exit",
    "ExitSignal",
    "GenServer",
    "Ignore",
    "NoReply",
    "Reply",
    "Runtime",
    "Stop",
    "Supervisor",
    "Task",
    "Timeout",
    "as_application",
    "call",
    "cancel_timer",
    "cast",
    "child",
    "count_children",
    "delete_child",
    "demonitor",
    "exit_",
    "link",
    "monitor",
    "receive",
    "register",
    "reply",
    "restart_child",
    "self_",
    "send",
    "send_after",
    "spawn",
    "start_child",
    "supervisor",
    "terminate_child",
    "trap_exit",
    "unlink",
    "unregister",
    "whereis",
    "which_children",
]
