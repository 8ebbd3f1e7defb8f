"""The reference: one page of plain HTML that needs nothing from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import Any

from superlearner.arsenal.openapi import ROOT
from superlearner.arsenal.operation import Operation

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --link: light-dark(#0550ae, #79b8ff); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .3rem; margin-top: 2.5rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
code, pre { font: .9em/1.5 ui-monospace, monospace; } pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .5rem .8rem; }
details:target { border-width: 2px; } summary { cursor: pointer; } summary p { display: inline; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 600; }
.mark { border: 1px solid var(--line); border-radius: 4px; padding: 0 .35rem; margin-left: .4rem; font-size: .85em; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
table { border-collapse: collapse; margin: .6rem 0; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-top: 1px solid var(--line); }
""".strip()


def reference(operations: Iterable[Operation], openapi: Mapping[str, Any]) -> str:
    """Return the page: every operation with its parameters, answers and failures, as the document has them."""
    groups = [
        (name, list(found)) for name, found in groupby(operations, key=lambda operation: operation.group)
    ]
    index = "".join(f'<li><a href="#group-{escape(name)}">{escape(name)}</a></li>' for name, _ in groups)
    body = "".join(_group(name, found, openapi) for name, found in groups)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>superlearner: the operations</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        '<a class="skip" href="#operations">To the operations</a>'
        "<header><h1>The operations</h1>"
        f"<p>All below <code>{ROOT}</code>; also <a href='openapi.json'>openapi.json</a>, and live events at "
        "<code>events/stream</code>. Each is a command, <code>superlearner op NAME</code>, and a method in Python, "
        "<code>cluster.ops.NAME(...)</code>, too.</p>"
        f"<nav aria-label='Groups'><ul>{index}</ul></nav></header><main id='operations'>{body}</main></body></html>"
    )


def _group(name: str, operations: list[Operation], openapi: Mapping[str, Any]) -> str:
    entries = "".join(_operation(operation, openapi) for operation in operations)
    return f'<section><h2 id="group-{escape(name)}">{escape(name)}</h2>{entries}</section>'


def _operation(operation: Operation, openapi: Mapping[str, Any]) -> str:
    entry = openapi["paths"][ROOT + operation.route.path][operation.method.lower()]
    marks: list[str] = [operation.access]
    marks += ["idempotent"] if operation.idempotent else []
    marks += ["asks for confirm"] if operation.dangerous else []
    marks.append(f"{operation.timeout:g} s at most")
    shown = "".join(f'<span class="mark">{escape(mark)}</span>' for mark in marks)
    text = "".join(f"<p>{escape(part)}</p>" for part in operation.description.split("\n\n") if part.strip())
    return (
        f'<details id="{escape(operation.name)}"><summary><span class="method">{operation.method}</span>'
        f"<code>{escape(operation.route.path)}</code>{shown}<br><strong>{escape(operation.name)}</strong> "
        f"<p>{escape(operation.summary)}</p></summary>{text}{_parameters(operation, openapi)}"
        f"<pre>{escape(_command(operation))}\n{escape(_python(operation))}</pre>{_responses(entry)}</details>"
    )


def _parameters(operation: Operation, openapi: Mapping[str, Any]) -> str:
    rows = ""
    for name, given in operation.params.model_fields.items():
        place = "path" if name in operation.in_path else "body" if operation.takes_body else "query"
        need = "needed" if given.is_required() else f"{given.get_default(call_default_factory=True)!r}"
        rows += (
            f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{place}</td><td>{escape(need)}</td>"
            f"<td>{escape(given.description or '')}</td></tr>"
        )
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("parameter", "where", "default", ""))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _responses(entry: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(status)}</th><td>{escape(told['description'])}</td></tr>"
        for status, told in entry["responses"].items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _command(operation: Operation) -> str:
    fields = operation.params.model_fields
    words = [f"superlearner op {operation.name}", *(name.upper() for name in operation.in_path)]
    words += [
        f"--{name.replace('_', '-')} ..." for name in operation.beside_path if fields[name].is_required()
    ]
    return " ".join([*words, *(["--confirm"] if operation.dangerous else [])])


def _python(operation: Operation) -> str:
    fields = operation.params.model_fields
    words = [*operation.in_path, *(f"{n}=..." for n in operation.beside_path if fields[n].is_required())]
    return f"cluster.ops.{operation.name}({', '.join([*words, *(['confirm=True'] if operation.dangerous else [])])})"
