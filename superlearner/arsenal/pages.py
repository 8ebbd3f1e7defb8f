"""The reference: one page of plain HTML that needs nothing from elsewhere. Pure.

The module is long because all of the page's markup stands in one place.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from superlearner.arsenal import examples
from superlearner.arsenal.access import LEVELS
from superlearner.arsenal.failures import Failure
from superlearner.arsenal.openapi import ALWAYS, JSON, ROOT, WHEN
from superlearner.arsenal.operation import Operation
from superlearner.arsenal.registry import by_group
from superlearner.arsenal.shapes import Schema, rows, title

_ACCESS = {
    "read": "looks, and changes nothing",
    "operate": "works with what is there; includes read",
    "admin": "may end it all; includes operate",
}
_here = files(__package__).joinpath("page")
_STYLE = _here.joinpath("style.css").read_text(encoding="utf-8")
_SCRIPT = _here.joinpath("script.js").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: What a browser may do with the page: apply this style, run this script, and nothing else.
POLICY = (
    f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def reference(
    operations: Iterable[Operation], openapi: Mapping[str, Any], *, origin: str = "", jupyter: bool = False
) -> str:
    """Return the page: every operation with its parameters, answers, failures and examples.

    Parameters
    ----------
    operations
        What it tells of.
    openapi
        Their document; its server says where they are mounted.
    origin
        The address at which the reader asks, such as ``http://127.0.0.1:8765``.
    jupyter
        Whether a Jupyter server vouches for callers, with its own token.
    """
    groups = by_group(operations)
    count = sum(len(found) for _, found in groups)
    base = str(openapi["servers"][0]["url"]).rstrip("/")
    index = "".join(_index(name, found) for name, found in groups)
    body = "".join(_group(name, found, openapi, jupyter=jupyter) for name, found in groups)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>superlearner: the operations</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        '<a class="skip" href="#operations">To the operations</a><div class="page">'
        '<header class="side"><search class="find" hidden><label for="filter">Filter</label>'
        '<input id="filter" type="search" autocomplete="off" spellcheck="false" aria-describedby="keys count">'
        '<p id="keys"><kbd>/</kbd> comes here, <kbd>Enter</kbd> opens the first</p>'
        '<p id="count" role="status"></p></search>'
        f'<nav class="toc" aria-label="Operations"><ul><li><a href="#start">Before you begin</a></li>{index}</ul>'
        f"</nav></header><main>{_start(base, origin, count, jupyter=jupyter)}"
        f'<div id="operations">{body}</div></main></div><p id="said" role="status" class="skip"></p>'
        f"<script>{_SCRIPT}</script></body></html>"
    )


def _index(name: str, operations: list[Operation]) -> str:
    lines = "".join(f'<li><a href="#{o.name}">{o.name}</a></li>' for o in operations)
    return f'<li><a href="#group-{escape(name)}">{escape(_heading(name))}</a><ul>{lines}</ul></li>'


# -- What holds for all ---------------------------------------------------------------------------------


def _start(base: str, origin: str, count: int, *, jupyter: bool) -> str:
    url = f"URL=<span data-origin>{escape(origin)}</span>{escape(base)}{ROOT}"
    if jupyter:
        token = "$JUPYTER_TOKEN"  # noqa: S105 - its name
        vouch = (
            "A terminal of this JupyterLab knows <code>JUPYTER_TOKEN</code>; elsewhere "
            "<code>jupyter server list</code> shows the token. It lets one do everything."
        )
        header = f'AUTH="Authorization: token {token}"'
    else:
        vouch = (
            "<code>superlearner token list</code> names the tokens of this server; "
            "<code>superlearner token add NAME --access read</code> makes another."
        )
        header = f'AUTH="Authorization: Bearer $({_show("operate")})"'
    levels = "".join(
        f'<div><dt class="{level}">{level}</dt><dd>{_ACCESS[level]}</dd></div>' for level in LEVELS
    )
    failure = "".join(
        f"<div><dt><code>{row.name}</code><span>{row.type}</span></dt><dd>{_text(row.description)}</dd></div>"
        for row in rows(Failure.model_json_schema(), {})
    )
    statuses = "".join(
        f'<tr><th scope="row">{status}</th><td>{escape(WHEN[status])}</td></tr>' for status in ALWAYS
    )
    return (
        '<section id="start" aria-labelledby="title"><h1 id="title">The operations</h1>'
        f"<p>{count} operations, each declared once. What follows is made from the declarations, as is "
        f'<a href="{escape(base)}{ROOT}/openapi.json">openapi.json</a> (OpenAPI 3.1). Every operation is a route, '
        "a command and a method in Python; the examples are about a sandbox <code>shop</code> on the nodes "
        "<code>alpha</code>, <code>beta</code> and <code>gamma</code>, and do the same each way.</p>"
        + _figure("For curl", f'{url}\n{escape(header)}\nJSON="Content-Type: application/json"', made=True)
        + _figure("For Python", "import superlearner as sl\n\ncluster = sl.connect()")
        + f"<p>{vouch} The command <code>superlearner op</code> works on the local cluster, without a token; with "
        "<code>--url</code> it asks a server.</p>"
        f'<h2>Access</h2><p>Each operation asks for one of three levels.</p><dl class="facts">{levels}</dl>'
        '<h2 id="fails">When it fails</h2>'
        "<p>Every answer that is no success has one body, <code>{&quot;error&quot;: {…}}</code>, "
        f'with these fields.</p><dl class="fields">{failure}</dl><h3>What any operation may answer</h3>'
        f"<table><tbody>{statuses}</tbody></table>"
        "<h2>What changes</h2><p>Answers to GET have an ETag: given back as <code>If-None-Match</code> it is answered "
        "with 304 while nothing is new. Events are told as they happen, from where <code>since</code> says, and go "
        "on where a client left off.</p>"
        + _figure("curl", 'curl -sSN -H "$AUTH" "$URL/events/stream?kind=sandbox_created"')
        + "</section>"
    )


def _show(level: str) -> str:
    return f"superlearner token show {level}"


# -- One operation --------------------------------------------------------------------------------------


def _heading(group: str) -> str:
    return group.replace("_", " ").capitalize()


def _group(name: str, operations: list[Operation], openapi: Mapping[str, Any], *, jupyter: bool) -> str:
    entries = "".join(_operation(operation, openapi, jupyter=jupyter) for operation in operations)
    module = sys.modules.get(operations[0].execute.__module__)
    told = "" if module is None or module.__name__ == "__main__" else inspect.getdoc(module) or ""
    about = told.partition("\n")[0].partition(": ")[2]
    line = f"<p>{_text(about[:1].upper() + about[1:])}</p>" if about else ""
    return (
        f'<section data-group aria-labelledby="group-{escape(name)}"><h2 id="group-{escape(name)}">'
        f"{escape(_heading(name))}</h2>{line}{entries}</section>"
    )


def _operation(operation: Operation, openapi: Mapping[str, Any], *, jupyter: bool) -> str:
    entry = openapi["paths"][ROOT + operation.route.path][operation.method.lower()]
    path = operation.route.path.replace("/", "<wbr>/")
    path = re.sub(r"\{\w+\}", lambda found: f"<i>{found[0]}</i>", path)
    marks = f'<span class="mark {operation.access}">{operation.access}</span>'
    marks += '<span class="mark danger">dangerous</span>' if operation.dangerous else ""
    words = f"{operation.name} {operation.name.replace('_', ' ')} {operation.method} {operation.route.path} "
    words += f"{operation.summary} {operation.group} {operation.access} {'dangerous' * operation.dangerous}"
    text = "".join(f"<p>{_text(part)}</p>" for part in operation.description.split("\n\n") if part.strip())
    body = [
        text,
        _facts(operation),
        _parameters(operation, entry, openapi),
        _result(operation, entry, openapi),
    ]
    body += [_failures(operation), _examples(operation, jupyter=jupyter)]
    return (
        f'<details class="op" data-name="{operation.name}" data-words="{escape(words.lower())}"><summary>'
        f'<span class="verb">{operation.method}</span><span class="path">{path}</span>'
        f'<span class="told"><h3>{operation.name}</h3><span>{_text(operation.summary)}</span>{marks}</span></summary>'
        f'<div class="body" id="{operation.name}">{"".join(body)}</div></details>'
    )


def _facts(operation: Operation) -> str:
    facts = {
        "Access": f'<span class="{operation.access}">{operation.access}</span>',
        "Idempotent": "yes: twice does as much as once"
        if operation.idempotent
        else "no: twice may do it twice",
        "Dangerous": "yes: asks for <code>confirm</code>" if operation.dangerous else "no",
        "Time limit": f"{operation.timeout:g} s",
    }
    return (
        f'<dl class="facts">{"".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts.items())}</dl>'
    )


def _parameters(operation: Operation, entry: Mapping[str, Any], openapi: Mapping[str, Any]) -> str:
    schemas = openapi["components"]["schemas"]
    given = entry["parameters"]
    fields = {
        "properties": {
            one["name"]: {**one["schema"], "description": one.get("description", "")} for one in given
        },
        "required": [one["name"] for one in given if one["required"]],
    }
    where = {one["name"]: one["in"] for one in given}
    told = _fields(fields, schemas, where)
    if "requestBody" in entry:
        body = schemas[entry["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]]
        told += _fields(body, schemas, dict.fromkeys(body["properties"], "body"))
    return (
        f'<h4>Parameters</h4><dl class="fields">{told}</dl>'
        if told
        else '<h4>Parameters</h4><p class="none">None.</p>'
    )


def _fields(
    schema: Schema,
    schemas: Mapping[str, Schema],
    where: Mapping[str, str] | None = None,
    above: tuple[str, ...] = (),
) -> str:
    """Return the fields of an object, with those of the objects in it one click away.

    `where` is for what is given: the place of each parameter, nothing for the fields of one.
    """
    lines = ""
    for row in rows(schema, schemas):
        kind = row.type if where is None else row.type.removesuffix(" or null").removesuffix(";")
        marks = f"<code>{escape(row.name)}</code><span>{escape(kind)}</span>"
        if where is not None:
            marks += f"<span>in the {where[row.name]}</span>" if row.name in where else ""
            if row.required:
                marks += '<span class="need">required</span>'
            elif row.default in {None, "null"}:
                marks += "<span>optional</span>"
            else:
                marks += f"<span>default <code>{escape(row.default)}</code></span>"
        inner = ""
        for name, held in row.within:
            if name not in above:
                deeper = _fields(held, schemas, None if where is None else {}, (*above, name))
                inner += (
                    f'<details class="within"><summary>Fields of {escape(title(name, held))}</summary>'
                    f'<dl class="fields">{deeper}</dl></details>'
                )
        lines += f"<div><dt>{marks}</dt><dd>{_text(row.description)}{inner}</dd></div>"
    return lines


def _result(operation: Operation, entry: Mapping[str, Any], openapi: Mapping[str, Any]) -> str:
    schemas = openapi["components"]["schemas"]
    answer = entry["responses"][str(operation.status)]
    location = ", and <code>Location</code> says where it is" if operation.creates is not None else ""
    if "content" not in answer:
        return f"<h4>Result</h4><p>Status {operation.status}; nothing is told{location}.</p>"
    name = answer["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
    schema = schemas[name]
    about = f" {_text(schema['description'])}" if schema.get("description") else ""
    fields = _fields(schema, schemas, above=(name,))
    return (
        f'<h4>Result</h4><p>Status {operation.status}{location}.{about}</p><dl class="fields">{fields}</dl>'
    )


def _failures(operation: Operation) -> str:
    told = []
    for error, status in operation.errors.items():
        meaning = (inspect.getdoc(error) or "").partition("\n")[0]
        unsure = "" if error.definite or operation.reads else " It may have taken effect."
        told.append((status, error.code, meaning + unsure))
    if operation.dangerous:
        told.append((409, "not_confirmed", "It was not confirmed; nothing was done."))
    if not told:
        return '<h4>Failures</h4><p class="none">Only <a href="#fails">those of any operation</a>.</p>'
    head = "".join(f'<th scope="col">{word}</th>' for word in ("Status", "Code", "What it means"))
    lines = "".join(
        f'<tr><th scope="row">{status}</th><td><code>{code}</code></td><td>{_text(meaning)}</td></tr>'
        for status, code, meaning in sorted(told)
    )
    return (
        f"<h4>Failures</h4><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        '<p class="none">Beside <a href="#fails">those of any operation</a>.</p>'
    )


def _examples(operation: Operation, *, jupyter: bool) -> str:
    given = examples.example(operation)
    curl = examples.with_curl(operation, given)
    if operation.access == "admin" and not jupyter:
        curl = f'AUTH="Authorization: Bearer $({_show("admin")})"\n{curl}'
    return (
        "<h4>Examples</h4>"
        + _figure("curl", curl)
        + _figure("Command", examples.as_command(operation, given))
        + _figure("Python", examples.in_python(operation, given))
    )


# -- Words ----------------------------------------------------------------------------------------------


def _figure(caption: str, code: str, *, made: bool = False) -> str:
    """Return code that can be copied; `made` when it is HTML already."""
    shown = code if made else escape(code, quote=False)
    return f"<figure><figcaption>{caption}</figcaption><pre><code>{shown}</code></pre></figure>"


def _text(text: str) -> str:
    """Return prose; what stands in backticks is code."""
    return re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", escape(text, quote=False))
