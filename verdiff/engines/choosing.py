"""Which engine of the cache serves a model here."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from verdiff.engines.machine import Machine, build_arguments, differences, driver_too_old, rebuild_command
from verdiff.engines.sidecar import Sidecar
from verdiff.errors import BackendError
from verdiff.options import BuildOptions


def select_engine(
    there: Iterable[Sidecar], machine: Machine, *, role: str, precision: str, graph_sha256: str, model: str
) -> Sidecar:
    """The first of some engines, newest first as :func:`find_engines` gives them, that serves a graph on a machine.

    Args:
        there: Engines to choose from.
        machine: Where it is to run.
        role: ``"prior"``, ``"step"`` or ``"pipeline"``.
        precision: Precision in the key's spelling.
        graph_sha256: Hash in the key.
        model: A shipped model's name or a bundle's path, for the command in the error.

    Raises:
        BackendError: There is none; says why those of this graph do not fit, and the command that builds one.
    """
    of_graph = [
        each
        for each in there
        if (each.key.role, each.key.precision, each.key.graph_sha256) == (role, precision, graph_sha256)
    ]
    for each in of_graph:
        if not differences(each, machine):
            return each
    words = build_arguments(BuildOptions(model, precision, (role,), flavour=machine.flavour))
    command = shlex.join(["verdiff", "build", *words])
    if of_graph:
        command = rebuild_command(of_graph[0], machine)
        reasons = "; ".join(f"{each.key.stem}: {', '.join(differences(each, machine))}" for each in of_graph)
        found = f"no engine of the {role} in {precision} that loads here ({reasons})"
    else:
        found = f"no engine of the {role} in {precision} of this model in the cache"
    if driver_too_old(machine) is not None:
        command = f"update NVIDIA's driver to one that runs CUDA {machine.cuda_version}, then {command}"
    raise BackendError(found, f"an engine for {machine}", command)
