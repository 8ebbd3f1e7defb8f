"""The house rules of modules: imports point down only, and each module of the tests has a name of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "superlearner"

#: Each floor may import those before it. `superlearner` itself (the public names, resolved lazily) stands where
#: the highest of its names lives.
FLOORS = (
    "errors", "config", "core", "otp", "sandbox", "cluster", "superlearner",
    "arsenal", "views", "testing", "teaching", "cli", "__main__",
)  # fmt: skip

MODULES = sorted(PACKAGE.rglob("*.py"))


def floor(module: str) -> int:
    """Return the floor on which `module`, a dotted name below ``superlearner``, stands."""
    parts = module.split(".")
    return FLOORS.index(parts[1] if len(parts) > 1 else "superlearner")


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module that `path` imports anywhere, also inside functions, with the line."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from superlearner import core` names a module, `from superlearner.core import spec` as well.
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if is_module(inner) else base), node.lineno


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("superlearner.") and (path.with_suffix(".py").exists() or path.is_dir())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path):
    if path == PACKAGE / "__init__.py":
        pytest.skip("the public face names things of every floor, lazily; see the test below")
    here = floor(dotted(path))
    upward = [
        f"line {line}: {name}"
        for name, line in imported(path)
        if name.split(".")[0] == "superlearner" and floor(name) > here
    ]
    assert not upward, f"{dotted(path)} imports from above itself: {upward}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "testing").rglob("*.py")), ids=lambda p: p.stem)
def test_the_test_kit_needs_neither_operations_nor_views(path: Path):
    for name, line in imported(path):
        assert not name.startswith(("superlearner.arsenal", "superlearner.views")), (
            f"testing/{path.name}:{line} imports {name}: it plays what is below them"
        )


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda p: p.stem)
def test_core_imports_only_the_standard_library_and_itself(path: Path):
    effects = {
        "asyncio",
        "threading",
        "socket",
        "subprocess",
        "random",
        "time",
        "multiprocessing",
        "concurrent",
    }
    for name, line in imported(path):
        top = name.split(".")[0]
        allowed = top in sys.stdlib_module_names - effects or name.startswith(
            ("superlearner.core", "superlearner.errors")
        )
        assert allowed, f"core/{path.name}:{line} imports {name}: core decides, it does nothing"


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


HEAVY = {
    "distributed",
    "dask",
    "bokeh",
    "ipywidgets",
    "anywidget",
    "IPython",
    "jupyterlab",
    "jupyter_server",
    "numpy",
}


@pytest.mark.parametrize(
    "statement",
    [
        "import superlearner",
        "import superlearner.errors",
        "import superlearner.core.spec",
        "import superlearner.cli",
        "import superlearner.testing",
    ],
)
def test_importing_the_package_loads_nothing_heavy(statement: str):
    assert not loaded_by(statement) & HEAVY


def test_importing_otp_needs_neither_dask_nor_jupyter():
    if not (PACKAGE / "otp" / "__init__.py").exists():
        pytest.skip("otp is not there yet")
    assert not loaded_by("import superlearner.otp") & HEAVY


def test_every_test_module_has_a_name_of_its_own():
    """They are imported by it: two that share one cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
