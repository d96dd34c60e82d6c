"""Which keys ``--set TABLE.KEY=VALUE`` may name, told before torch is imported."""

from __future__ import annotations

import ast
import dataclasses
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from verdiff.errors import DataError
from verdiff.settings import check_limits
from verdiff.systems import SYSTEMS, system_named
from verdiff.train.config import RunConfig, parse_setting, shipped_configs

NETWORK = "network"
_NETWORKS = Path(__file__).parent / "networks"


def check_settings(settings: Sequence[str], config: str | None) -> None:
    """Refuse a table or key that there is not, and a value outside its limits.

    Args:
        settings: ``TABLE.KEY=VALUE`` each.
        config: Name or path of the configuration they change; None where a run has its own, of any system.

    Raises:
        DataError: One is refused; the message names the choices.
    """
    kinds: dict[str, Any] = {
        each.name: each.default_factory
        for each in dataclasses.fields(RunConfig)
        if isinstance(each.default_factory, type)
    }
    for given in settings:
        table, key, value = parse_setting(given)
        if table == NETWORK:
            known = _network_keys(config)
        elif table in kinds:
            known = [each.name for each in dataclasses.fields(kinds[table])]
        else:
            _refuse(f"{given}: there is no table {table!r}", [*kinds, NETWORK])
        if known is not None and key not in known:
            _refuse(f"{given}: [{table}] has no key {key!r}", known)
        if table in kinds:
            check_limits(kinds[table], {key: tuple(value) if isinstance(value, list) else value}, f"--set {given}")


def _refuse(found: str, choices: Sequence[str]) -> None:
    raise DataError(found, f"one of {', '.join(choices)}", "correct its spelling")


def _network_keys(config: str | None) -> list[str] | None:
    """Keys of a configuration's ``[network]`` table; None where its system is not known yet."""
    if config is None:
        return None
    try:
        values = tomllib.loads(Path(shipped_configs().get(config, config)).read_text("utf-8"))
    except (OSError, ValueError):
        # What is wrong with the file is said when it is loaded.
        return None
    name = values.get("system", RunConfig.system)
    if name not in SYSTEMS:
        return None
    system = system_named(name)
    return list(dict.fromkeys(_fields_of(system.module, system.config)))


def _fields_of(module: str, name: str) -> Iterator[str]:
    """Names of the fields of a dataclass in a module of networks, those of its bases first, as its source has them."""
    tree = ast.parse((_NETWORKS / f"{module}.py").read_text("utf-8"))
    imported = {
        alias.name: each.module.rpartition(".")[2]
        for each in tree.body
        if isinstance(each, ast.ImportFrom) and each.module
        for alias in each.names
    }
    (found,) = (each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name)
    for base in found.bases:
        if isinstance(base, ast.Name):
            yield from _fields_of(imported.get(base.id, module), base.id)
    for line in found.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield line.target.id
