"""The checks of lesson 1: pure functions of what was recorded, with the mistakes that are likely."""

from __future__ import annotations

from collections.abc import Sequence

from superlearner.core.history import Event
from superlearner.otp import child, supervisor
from superlearner.teaching import Exercise, Mistake, Observation, Prediction, Raised, Step

# -- Exercise 1: a counter --------------------------------------------------------------------------

COUNTER_SCRIPT = (
    Step("call", "counter", "increment", label="first increment"),
    Step("call", "counter", "increment", label="second increment"),
    Step("call", "counter", "value", label="value"),
    Step("state", "counter", label="state"),
    Step("kill", "counter"),
    Step("call", "counter", "value", label="value after a kill"),
)


def increments(seen: Observation) -> tuple:
    return tuple(seen.answers.get(label) for label in ("first increment", "second increment", "value"))


def life_and_death(seen: Observation) -> Sequence[Event]:
    kinds = ("process_exited", "process_restarted")
    return [event for event in seen.events if event.name == "counter" and event.kind in kinds]


def counts(seen: Observation) -> Sequence[Event] | None:
    right = increments(seen) == (1, 2, 2) and seen.answers.get("value after a kill") == 0
    return life_and_death(seen) if right else None


def forgets(seen: Observation) -> Sequence[Event] | None:
    return () if increments(seen) == (1, 1, 0) else None


def answers_the_old_number(seen: Observation) -> Sequence[Event] | None:
    return () if increments(seen) == (0, 1, 2) else None


def hides_its_state(seen: Observation) -> Sequence[Event] | None:
    # It counts, but the system does not know it: the state never changed.
    counted = increments(seen)[:2] == (1, 2)
    return () if counted and seen.answers.get("state") == 0 else None


def died_on_increment(seen: Observation) -> list[Event]:
    if not isinstance(seen.answers.get("first increment"), Raised):
        return []
    return [event for event in seen.of("process_exited", "counter") if event.reason != "killed"][:1]


def answers_nothing(seen: Observation) -> Sequence[Event] | None:
    return [event for event in died_on_increment(seen) if "returned None" in str(event.reason)] or None


def answers_without_reply(seen: Observation) -> Sequence[Event] | None:
    return [event for event in died_on_increment(seen) if "returned" in str(event.reason)] or None


def counter_cell(increment: str) -> str:
    """Return the exercise's cell with `increment` as the body of its case."""
    return f"""\
from superlearner.otp import GenServer, Reply

class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        match request:
            case "value":
                return Reply(state, state)
            case "increment":
                {increment}
"""


COUNTER = Exercise(
    id="counter",
    title="A counter that counts",
    script=COUNTER_SCRIPT,
    app=lambda given: supervisor([child(given, 0, id="counter", name="counter")]),
    defines="Counter",
    passed=counts,
    praise="It counts, it answers with the new number, and after a kill its supervisor started a fresh one.",
    mistakes=(
        Mistake(
            "forgets",
            forgets,
            "Each increment answers 1, and the value stays 0: the answer is right, but the counter forgets it at once.",
            "Reply takes two things: what the caller gets, and what the counter keeps. Which one is still the old?",
            counter_cell("return Reply(state + 1, state)"),
        ),
        Mistake(
            "old-answer",
            answers_the_old_number,
            "It counts, but the first increment answers 0: the caller gets the number from before.",
            "The second thing in your Reply is right. Look at the first: what should the caller get?",
            counter_cell("return Reply(state, state + 1)"),
        ),
        Mistake(
            "hidden-state",
            hides_its_state,
            "The increments answer 1 and 2, but the state of the process is still 0: the count is kept somewhere else.",
            "What is kept in self or in a global variable cannot be seen, copied or restored. Let the new number leave "
            "the method as the second thing in Reply.",
            counter_cell('self.count = getattr(self, "count", 0) + 1; return Reply(self.count, state)'),
        ),
        Mistake(
            "no-return",
            answers_nothing,
            'The process died on "increment": its handler returned None, so it said neither an answer nor a new state.',
            'Does the branch for "increment" end in a return? Without one, Python returns None.',
            counter_cell("Reply(state + 1, state + 1)"),
        ),
        Mistake(
            "bare-answer",
            answers_without_reply,
            'The process died on "increment": what its handler returned is not a Reply.',
            "A call needs two things back, an answer and a new state. Put both into Reply(answer, new_state), as the "
            'branch for "value" does.',
            counter_cell("return state + 1"),
        ),
    ),
    hints=(
        'For "value" the counter answers with the state and keeps the state. And for "increment"?',
        "Both are the same number: one more than the state that came in.",
        "The old state comes in as `state`; the new one is `state + 1`. It belongs into both places of Reply.",
    ),
)


# -- The three predictions --------------------------------------------------------------------------

SANDBOX = "lesson-01"
COMING_BACK = ("restart_scheduled", "process_restarted")


def this_run(seen: Observation) -> Observation:
    """Return what was seen since the sandbox was created, without the earlier runs of the notebook."""
    created = [event for event in seen.of("sandbox_started") if event.sandbox == SANDBOX]
    return seen.after(created[-1]) if created else seen


def process_came_back(seen: Observation) -> tuple[str, Sequence[Event]] | None:
    run = this_run(seen)
    killed = [event for event in run.of("process_exited", "counter") if event.reason == "killed"]
    if not killed:
        return None
    story = [
        killed[-1],
        *(e for e in run.after(killed[-1]).events if e.name == "counter" and e.kind in COMING_BACK),
    ]
    value = seen.answers.get("value")
    if value is None:
        return "gone", story
    # The restart is on its way into the record when the new process has answered already.
    if "process_restarted" not in [event.kind for event in story]:
        return None
    return ("fresh" if value == 0 else "kept"), story


def program_came_back(seen: Observation) -> tuple[str, Sequence[Event]] | None:
    run = this_run(seen)
    restarted = run.of("sandbox_restarted")
    if not restarted:
        return None
    stored = [e for e in run.of("checkpoint_stored") if restarted[-1] in run.after(e).events]
    story = [*stored[-1:], restarted[-1]]
    return {3: "checkpoint", 5: "kept", 0: "fresh"}.get(seen.answers.get("value"), "gone"), story


def node_came_back(seen: Observation) -> tuple[str, Sequence[Event]] | None:
    run, before, after = this_run(seen), seen.answers.get("before"), seen.answers.get("after")
    lost = [event for event in run.of("node_lost") if event.node == before]
    if not lost:
        return None
    restarted = [e for e in run.after(lost[-1]).of("sandbox_restarted") if e.sandbox == SANDBOX]
    if after is None:
        return "gone", lost[-1:]
    if not restarted:
        return None
    if seen.answers.get("value") == 0:
        return "fresh", [lost[-1], restarted[-1]]
    return ("elsewhere" if after != before else "waits"), [lost[-1], restarted[-1]]


PROCESS = Prediction(
    id="process",
    question="The counter says 5. It is killed. What does it say next?",
    choices={
        "fresh": "It says 0: a new one was started, from the beginning.",
        "kept": "It says 5: it was started again with the number it had.",
        "gone": "It says nothing: a killed process stays away.",
    },
    happened=process_came_back,
    why="Its supervisor saw it die and called init again.",
)

PROGRAM = Prediction(
    id="program",
    question="Checkpoint at 3, counted on to 5. The sandbox's operating system process is killed. What comes next?",
    choices={
        "fresh": "It says 0: everything starts from the beginning.",
        "checkpoint": "It says 3: the number of the checkpoint.",
        "kept": "It says 5: the last number.",
        "gone": "It says nothing: supervisor and counter are both dead.",
    },
    happened=program_came_back,
    why="The supervisor died as well; the node noticed, and started the sandbox from its newest checkpoint.",
)

NODE = Prediction(
    id="node",
    question="Checkpoint at 4. The node is killed, with everything on it. What does the counter say next?",
    choices={
        "fresh": "It says 0, on another node: the checkpoint died with its node.",
        "elsewhere": "It says 4, on another node.",
        "waits": "It says 4, but only once the same node is back.",
        "gone": "It says nothing: the sandbox was on that node.",
    },
    happened=node_came_back,
    why="The control plane saw the node go, and another node started the sandbox from its own copy of the checkpoint.",
)


# -- Exercise 2: a shop -----------------------------------------------------------------------------

SHOP_SCRIPT = (
    Step("call", "visitors", "increment"),
    Step("call", "stock", "increment"),
    Step("call", "till", "increment"),
    Step("kill", "receipt"),
    Step("call", "receipt", "print", label="receipt after it was killed"),
    Step("kill", "stock"),
    Step("call", "visitors", "value", label="visitors after the stock died"),
    Step("call", "till", "value", label="till after the stock died"),
    Step("call", "receipt", "done", ends=True),
    Step("call", "receipt", "print", label="receipt after it was done"),
)


def answer(seen: Observation, about: str) -> object:
    return seen.answers.get(about)


def deaths(seen: Observation, *names: str) -> list[Event]:
    kinds = ("process_exited", "process_restarted")
    return [event for event in seen.events if event.kind in kinds and event.name in names]


def till_was_left_alone(seen: Observation) -> Sequence[Event] | None:
    return deaths(seen, "stock", "till") if answer(seen, "till after the stock died") == 1 else None


def visitors_were_stopped(seen: Observation) -> Sequence[Event] | None:
    return deaths(seen, "stock", "visitors") if answer(seen, "visitors after the stock died") == 0 else None


def receipt_stayed_dead(seen: Observation) -> Sequence[Event] | None:
    return (
        deaths(seen, "receipt") if isinstance(answer(seen, "receipt after it was killed"), Raised) else None
    )


def receipt_came_back(seen: Observation) -> Sequence[Event] | None:
    return deaths(seen, "receipt") if answer(seen, "receipt after it was done") == "printed" else None


def behaves(seen: Observation) -> Sequence[Event] | None:
    right = (
        answer(seen, "visitors after the stock died") == 1
        and answer(seen, "till after the stock died") == 0
        and answer(seen, "receipt after it was killed") == "printed"
        and isinstance(answer(seen, "receipt after it was done"), Raised)
    )
    return deaths(seen, "visitors", "stock", "till", "receipt") if right else None


def shop_cell(strategy: str, restart: str) -> str:
    """Return a cell that defines the shop with these two choices."""
    return (
        counter_cell("return Reply(state + 1, state + 1)")
        + f"""
from superlearner.otp import Stop, child, supervisor

class Receipt(GenServer):
    def init(self):
        return "ready"

    def handle_call(self, request, sender, state):
        match request:
            case "print":
                return Reply("printed", state)
            case "done":
                return Stop("normal", reply="bye", state=state)

def shop():
    return supervisor(
        [
            child(Counter, 0, id="visitors", name="visitors"),
            child(Counter, 0, id="stock", name="stock"),
            child(Counter, 0, id="till", name="till"),
            child(Receipt, id="receipt", name="receipt", restart="{restart}"),
        ],
        strategy="{strategy}",
    )
"""
    )


SHOP = Exercise(
    id="shop",
    title="A shop whose parts die in the right company",
    script=SHOP_SCRIPT,
    app=lambda given: given(),
    defines="shop",
    passed=behaves,
    praise="The till followed the stock, the visitors did not notice, and the printer came back only when it had to.",
    mistakes=(
        Mistake(
            "till-left-alone",
            till_was_left_alone,
            "The stock was killed and started again, but the till went on with what it knew before.",
            "one_for_one leaves all the others alone. Which strategies do not?",
            shop_cell("one_for_one", "transient"),
        ),
        Mistake(
            "visitors-stopped",
            visitors_were_stopped,
            "When the stock was killed, the visitors were stopped too, and their count is lost.",
            "The children stand in an order: who comes before the stock, who after? One strategy looks at that.",
            shop_cell("one_for_all", "transient"),
        ),
        Mistake(
            "receipt-stayed-dead",
            receipt_stayed_dead,
            "The receipt printer was killed, and nobody started it again.",
            "A temporary child is never started again. You want that only for an end that was meant.",
            shop_cell("rest_for_one", "temporary"),
        ),
        Mistake(
            "receipt-came-back",
            receipt_came_back,
            "The receipt printer finished its work, and its supervisor started it again all the same.",
            "A permanent child is started again whatever its reason to end. Which restart type looks at the reason?",
            shop_cell("rest_for_one", "permanent"),
        ),
    ),
    hints=(
        "Take the three wishes one by one. The first two are about the strategy, the third is about the restart type.",
        "The visitors stand before the stock in the list, the till after it.",
        "One strategy is about those that stand after the dead one; one restart type is about failures only.",
    ),
)

QUESTIONS = (COUNTER, PROCESS, PROGRAM, NODE, SHOP)
