"""Each operation once more as a person would write it: with curl, as a command, in Python. Pure.

All three say the same. They are about a sandbox ``shop`` on three nodes, which the example of `create_sandbox` makes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from superlearner.arsenal.arguments import as_words
from superlearner.arsenal.operation import Operation

#: The columns of a line; longer ones are broken.
WIDTH = 84
_APPLICATION = "superlearner.cli.demo_app:shop"
#: What stands for a parameter of that name.
_VALUES: Mapping[str, Any] = {
    "id": "shop",
    "name": "gamma",
    "node": "alpha",
    "process": "counter",
    "pid": "<alpha.shop.2>",
    "supervisor": "root",
    "child": "counter",
    "target": "shop/counter",
    "trace": "trace-1",
    "application": _APPLICATION,
}
#: For operations that mean something else by a name, or whose examples say more with a parameter more.
_OWN: Mapping[str, Mapping[str, Any]] = {
    "acknowledge_alert": {"id": "node_failure-1", "by": "ann"},
    "add_node": {"name": "delta"},
    "call_sandboxes": {"calls": [{"target": "shop/counter", "request": "increment"}]},
    "change_supervisor": {"strategy": "one_for_all"},
    "create_sandbox": {"id": "shop", "application": _APPLICATION},
    "create_sandboxes": {"sandboxes": [{"id": "shop-2", "application": _APPLICATION}]},
    "destroy_sandboxes": {"ids": ["shop", "shop-2"]},
    "explain_placement": {"resources": {"memory": "64 MiB"}},
    "get_fault": {"id": "3f2a9c01"},
    "inject_fault": {"fault": {"kind": "delay", "a": "alpha", "b": "beta", "seconds": 0.05}},
    "kill": {"kill": {"kind": "kill_sandbox", "id": "shop"}},
    "list_events": {"sandbox": "shop", "limit": 10},
    "list_processes": {"sort": "mailbox", "limit": 10},
    "list_sandboxes": {"status": "running", "limit": 10},
    "migrate_sandbox": {"node": "beta"},
    "rebalance": {"plan": "0123456789ab"},
    "replace_process_state": {"value": 41},
    "restore_sandbox": {"epoch": 1, "seq": 1},
    "revert_fault": {"id": "3f2a9c01"},
    "run_schedule": {
        "steps": [{"after": 0.5, "fault": {"kind": "kill_process", "target": "shop/counter"}}],
        "seed": 7,
    },
    "send_message": {"message": "increment"},
    "simulate_failure": {"child": "counter"},
    "start_child": {"start": "superlearner.cli.demo_app:Ledger", "name": "ledger"},
}


def example(operation: Operation) -> dict[str, Any]:
    """Return parameters to show an operation with: what it cannot do without, and what explains it.

    A field's own ``examples`` go before everything; without any, a word or the least that its schema allows.
    """
    schema = operation.params.model_json_schema()
    needed = {name for name, field in operation.params.model_fields.items() if field.is_required()}
    own = _OWN.get(operation.name, {})
    found = {}
    for name, field in schema.get("properties", {}).items():
        if name in own:
            found[name] = own[name]
        elif "examples" in field:
            found[name] = field["examples"][0]
        elif name in needed:
            found[name] = _VALUES.get(name, _least(name, field))
    return found


def _least(name: str, schema: Mapping[str, Any]) -> Any:
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {}
    return name.upper()


def with_curl(operation: Operation, given: Mapping[str, Any]) -> str:
    """Return a request with curl; ``$URL``, ``$AUTH`` and ``$JSON`` are set before.

    >>> from superlearner.arsenal import shared
    >>> print(with_curl(shared().get("restart_sandbox"), {"id": "shop"}))
    curl -sS -H "$AUTH" -X POST "$URL/distributed/sandboxes/shop/restarts"
    """
    beside = {name: value for name, value in given.items() if name in operation.beside_path}
    query = {} if operation.takes_body else {name: as_words(value) for name, value in beside.items()}
    query |= {"confirm": "true"} if operation.dangerous else {}
    target = operation.route.fill(given) + (f"?{urlencode(query, doseq=True)}" if query else "")
    sends = operation.takes_body and bool(beside)
    words = ['curl -sS -H "$AUTH"', *(['-H "$JSON"'] if sends else [])]
    if operation.method != ("POST" if sends else "GET"):
        words.append(f"-X {operation.method}")
    words.append(f'"$URL{target}"')
    if sends:
        words.append(f"-d {shlex.quote(json.dumps(beside))}")
    return _lines(words)


def as_command(operation: Operation, given: Mapping[str, Any], *, width: int = WIDTH) -> str:
    """Return the command.

    >>> from superlearner.arsenal import shared
    >>> print(as_command(shared().get("destroy_sandbox"), {"id": "shop"}))
    superlearner op destroy_sandbox shop --confirm
    """
    words = [
        f"superlearner op {operation.name}",
        *(shlex.quote(str(given[name])) for name in operation.in_path),
    ]
    for name in operation.beside_path:
        if name in given:
            texts = as_words(given[name])
            option = f"--{name.replace('_', '-')}"
            words += [
                f"{option} {shlex.quote(text)}" for text in (texts if isinstance(texts, list) else [texts])
            ]
    return _lines([*words, *(["--confirm"] if operation.dangerous else [])], width)


def in_python(operation: Operation, given: Mapping[str, Any]) -> str:
    """Return the call of the method.

    >>> from superlearner.arsenal import shared
    >>> print(in_python(shared().get("destroy_sandbox"), {"id": "shop"}))
    cluster.ops.destroy_sandbox("shop", confirm=True)
    """
    words = [_python(given[name]) for name in operation.in_path]
    words += [f"{name}={_python(given[name])}" for name in operation.beside_path if name in given]
    words += ["confirm=True"] if operation.dangerous else []
    call = f"cluster.ops.{operation.name}"
    line = f"{call}({', '.join(words)})"
    return line if len(line) <= WIDTH else "\n".join([f"{call}(", *(f"    {word}," for word in words), ")"])


def _python(value: Any) -> str:
    """Return a value as Python has it, in the double quotes of everything else here."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_python(key)}: {_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    return repr(value)


def _lines(words: Iterable[str], width: int = WIDTH) -> str:
    """Return a command, broken between words where it is long."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}" if lines else word)
    return " \\\n".join(lines)
