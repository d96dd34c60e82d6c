"""Which module imports which, read from the sources: nothing is imported to find out.

Every import counts: at the top of a module, inside a function, under ``TYPE_CHECKING``, and ``import_module`` of a name
that is written out. ``import_module(f"verdiff.room.{name}")`` counts as an import of every module of that room.

``python -m tools.import_graph`` prints the circles, and how many modules and lines there are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DYNAMIC = ("import_module", "__import__")

Graph = Mapping[str, frozenset[str]]
"""Module -> the modules it imports, by dotted name."""


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes:
        module: The module it stands in, dotted.
        line: Its line there.
        target: The dotted name it imports; ``package.*`` for any module of a package.
        at_load: Whether it runs when the module is loaded: not inside a function, not for types alone.
    """

    module: str
    line: int
    target: str
    at_load: bool

    @property
    def where(self) -> str:
        """Module and line."""
        return f"{self.module}:{self.line}"


def dotted_name(path: Path, root: Path = ROOT) -> str:
    """``verdiff/imaging/volume.py`` -> ``verdiff.imaging.volume``; an ``__init__.py`` has its package's."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*packages: str, root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module of some top-level packages."""
    found = sorted(path for package in packages for path in (root / package).rglob("*.py"))
    return {dotted_name(path, root): path for path in found}


def imports_of(path: Path, known: frozenset[str] = frozenset(), root: Path = ROOT) -> Iterator[Import]:
    """Every import of a module, wherever it stands in it.

    Args:
        path: The module's file.
        known: Modules there are: ``from package import name`` names one of these where there is one, else the package.
        root: The folder of the top-level packages.
    """
    module = dotted_name(path, root)
    package = module if path.stem == "__init__" else module.rpartition(".")[0]

    def walk(node: ast.AST, at_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for target in _targets(child, package, known):
                yield Import(module, child.lineno, target, at_load)  # type: ignore[attr-defined]
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from walk(child, at_load and not deferred and not typing_only)

    yield from walk(ast.parse(path.read_text("utf-8")), True)


def import_graph(*packages: str, root: Path = ROOT) -> dict[str, frozenset[str]]:
    """The imports between the modules of some top-level packages."""
    files = sources(*packages, root=root)
    known = frozenset(files)
    graph = {}
    for module, path in files.items():
        targets: set[str] = set()
        for found in imports_of(path, known, root):
            if found.target.endswith(".*"):
                targets |= {each for each in known if each.startswith(found.target[:-1])}
            else:
                targets.add(found.target)
        graph[module] = frozenset(targets & known - {module})
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, in a ring or in several; each group sorted. Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    held: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        held.append(module)
        for target in sorted(graph[module]):
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in held:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            start = held.index(module)
            if len(held) - start > 1:
                found.append(sorted(held[start:]))
            del held[start:]

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return sorted(found)


def _targets(node: ast.AST, package: str, known: frozenset[str]) -> list[str]:
    """Absolute dotted names that a statement or a call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1])
            base = f"{above}.{node.module}" if node.module else above
        return [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return _dynamic(node.args[0]) if called in DYNAMIC else []
    return []


def _dynamic(name: ast.expr) -> list[str]:
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return [name.value]
    if isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
        beginning = str(name.values[0].value)
        return [f"{beginning.rpartition('.')[0]}.*"] if "." in beginning else []
    return []


def main() -> None:
    """Print what there is of the package, and its circles."""
    files, graph = sources("verdiff"), import_graph("verdiff")
    lines = sum(path.read_text("utf-8").count("\n") for path in files.values())
    found = circles(graph)
    print(f"{len(files)} modules, {lines} lines, {len(found)} circles")
    for group in found:
        print("  " + ", ".join(group))


if __name__ == "__main__":
    main()
