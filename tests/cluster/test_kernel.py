"""In a real kernel: an interrupt gives the prompt back at once, and what a notebook defines travels."""

from __future__ import annotations

import asyncio
import time

import pytest
from cluster_kit import run

manager = pytest.importorskip("jupyter_client.manager")

DEFINITIONS = """
import asyncio, time
import superlearner as sl
from superlearner.otp import GenServer, Reply, Runtime, child

class Slow(GenServer):
    async def init(self, seconds=0):
        await asyncio.sleep(seconds)
        return 0
    async def handle_call(self, request, sender, state):
        await asyncio.sleep(request)
        return Reply(state + 1, state + 1)
    async def terminate(self, reason, state):
        await asyncio.sleep(1000)
Slow.trap_exit = True
"""


class Kernel:
    """A kernel that runs cells, and is interrupted while it does."""

    def __init__(self, folder):
        self.folder = folder

    async def __aenter__(self):
        self.manager, self.client = await manager.start_new_async_kernel(
            kernel_name="python3", cwd=str(self.folder)
        )
        return self

    async def __aexit__(self, *_):
        self.client.stop_channels()
        await self.manager.shutdown_kernel()

    async def run(self, code, interrupt_after=None):
        """Run a cell; return its text, its error as ``(name, text)``, and the seconds from interrupt to prompt."""
        id = self.client.execute(code)
        interrupting, interrupted = None, None
        texts, error = [], None
        while True:
            message = await self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != id:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "execute_input" if interrupt_after is not None:
                    interrupted = time.monotonic() + interrupt_after
                    interrupting = asyncio.create_task(self.interrupt(interrupt_after))
                case "stream":
                    texts.append(content["text"])
                case "execute_result":
                    texts.append(content["data"]["text/plain"])
                case "error":
                    error = (content["ename"], content["evalue"])
                case "status" if content["execution_state"] == "idle":
                    break
        took = None if interrupted is None else time.monotonic() - interrupted
        if interrupting is not None:
            interrupting.cancel()  # a cell that was faster than the interrupt is fine
            await asyncio.gather(interrupting, return_exceptions=True)
        return "".join(texts).strip(), error, took

    async def interrupt(self, seconds):
        await asyncio.sleep(seconds)
        await self.manager.interrupt_kernel()

    async def value(self, code):
        text, error, _ = await self.run(code)
        assert error is None, error
        return text


#: What is interrupted, after how long, and what must work afterwards.
INTERRUPTS = [
    ("cluster.create_sandbox('late', child(Slow, 1000))", "cluster.status().quorum", "True"),
    ("shop.call('slow', 2.0, timeout=60)", "shop.call('slow', 0, timeout=10)", "2"),
    ("while True: cluster.status()", "cluster.status().total_nodes", "2"),
    ("cluster.migrate_sandbox('shop')", "shop.call('slow', 0, timeout=30)", "3"),
    ("runtime.call('slow', 1.0, timeout=60)", "runtime.call('slow', 0, timeout=10)", "2"),
    ("cluster.destroy_sandbox('shop')", "cluster.status().total_nodes", "2"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_gives_the_prompt_back_and_the_cluster_stays_usable(tmp_path):
    run(interrupt_everything(tmp_path))


async def interrupt_everything(folder):
    async with Kernel(folder) as kernel:
        await kernel.value(DEFINITIONS)
        _, error, _ = await kernel.run("cluster = sl.Cluster(nodes=2)", interrupt_after=0.3)
        assert error == ("KeyboardInterrupt", "")
        assert await kernel.value("import psutil; psutil.Process().children(recursive=True)") == "[]"
        await kernel.value("cluster = sl.Cluster(nodes=2)")
        await kernel.value("shop = cluster.create_sandbox('shop', child(Slow, name='slow'), shutdown=2.0)")
        await kernel.value(
            "runtime = Runtime(child(Slow, name='slow', shutdown='brutal_kill')); runtime.__enter__()"
        )
        for interrupted, then, expected in INTERRUPTS:
            _, error, took = await kernel.run(interrupted, interrupt_after=0.4)
            assert error in {("KeyboardInterrupt", ""), None}, (interrupted, error)
            assert took < 1.0 or error is None, f"{interrupted}: {took:.1f} s until the prompt"
            assert await kernel.value(then) == expected, interrupted
        await kernel.value("runtime.__exit__(None, None, None)")
        await kernel.run("cluster.close()", interrupt_after=0.05)
        await kernel.value("cluster.close()")
        assert (
            await kernel.value("psutil.wait_procs(psutil.Process().children(recursive=True), 20)[1]") == "[]"
        )


MODULES = {
    "beside.py": "from shelf.books import FIRST\ndef first(): return FIRST\n",
    "shelf/__init__.py": "",
    "shelf/books.py": "from .inner.names import NAME\nFIRST = NAME\n",
    "shelf/inner/__init__.py": "",
    "shelf/inner/names.py": "from ..helpers import shout\nNAME = shout('emma')\n",
    "shelf/helpers.py": "def shout(text): return text.upper()\n",
    "shelf/app.py": """
from superlearner.otp import GenServer, Reply
from .helpers import shout
from . import books
class Reader(GenServer):
    def init(self): return 0
    def handle_call(self, request, sender, state): return Reply(shout(request) + books.FIRST, state)
""",
}

CELL = """
import dataclasses, enum
import superlearner as sl
from superlearner.otp import GenServer, Reply, child
import beside
from shelf.app import Reader

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Item:
    name: str
    color: Color = Color.RED

class Server(GenServer):
    def init(self, function): return function
    def handle_call(self, request, sender, state):
        return Reply((state(1), request, request.color is Color.RED, beside.first()), state)

def closure(step):
    return lambda n: n + step

cluster = sl.Cluster(nodes=2)
sandbox = cluster.create_sandbox("a", child(Server, closure(5), name="server"))
"""

REDEFINED = """
class Server(GenServer):
    def init(self): return 0
    def handle_call(self, request, sender, state): return Reply("the new class", state)
second = cluster.create_sandbox("b", child(Server, name="server"))
second.call("server", 1)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_a_notebook_defines_and_what_lies_beside_it_simply_work(tmp_path):
    for name, text in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run(define_and_call(tmp_path))


async def define_and_call(folder):
    async with Kernel(folder) as kernel:
        await kernel.value(CELL)
        answer = "(6, Item(name='x', color=<Color.RED: 1>), True, 'EMMA')"
        assert await kernel.value("sandbox.call('server', Item('x'))") == answer
        assert await kernel.value("sandbox.call('server', Item('x'))[1] == Item('x')") == "True"
        assert await kernel.value(REDEFINED) == "'the new class'"
        await kernel.value("sandbox.restart(); sandbox.migrate()")
        assert await kernel.value("sandbox.call('server', Item('x'))") == answer
        reader = "cluster.create_sandbox('c', child(Reader, name='reader')).call('reader', 'hi ')"
        assert await kernel.value(reader) == "'HI EMMA'"
        _, error, _ = await kernel.run("sandbox.call('severr', 1)")
        assert error == ("NoProcess", "There is no process 'severr'. Did you mean 'server'?")
        await kernel.value("cluster.close()")
