"""Who may import whom, and what `import verdiff.runtime` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.import_graph import ROOT, Import, circles, import_graph, imports_of, sources

PACKAGE = ROOT / "verdiff"

# Engines have one home of several rooms: its ground (keys, store, shapes, sidecars), TensorRT's module, and what builds
# engines, runs them and examines them for the doctor.
ENGINES = frozenset({"engines", "engines.library", "engines.build", "engines.run", "engines.doctor"})
GROUND = frozenset({"diffusion", "imaging", "anatomy", "bundle", "evaluate", "engines"})
EVERYWHERE = frozenset(
    {
        *(
            "choices",
            "errors",
            "extras",
            "files",
            "keywords",
            "limits",
            "markdown",
            "nvidia",
            "options",
            "precisions",
            "progress",
            "rehearsal",
            "settings",
        ),
        "systems",
    }
)
ROOMS = (
    GROUND
    | ENGINES
    | {"runtime", "train", "export", "benchmarks", "interop", "serve", "page", "batch", "commands", "cli", "doctor"}
)
MAY_IMPORT: dict[str, frozenset[str]] = {
    "choices": frozenset(),
    "errors": frozenset(),
    "extras": frozenset(),
    "markdown": frozenset(),
    "systems": frozenset(),
    "settings": frozenset(),
    "options": frozenset(),
    "keywords": frozenset(),
    "limits": frozenset(),
    "files": frozenset(),
    "nvidia": frozenset(),
    "precisions": frozenset(),
    "progress": frozenset(),
    "rehearsal": frozenset(),
    "diffusion": frozenset(),
    "imaging": frozenset(),
    # Its manifest holds their records.
    "bundle": frozenset({"diffusion", "imaging"}),
    "anatomy": frozenset({"imaging"}),
    "evaluate": frozenset({"imaging", "page"}),
    "engines": frozenset({"bundle"}),
    "engines.library": frozenset({"engines"}),
    "engines.build": frozenset({"bundle", "diffusion", "engines", "engines.library", "export"}),
    "engines.run": frozenset({"bundle", "engines", "engines.library", "runtime"}),
    "engines.doctor": frozenset({"bundle", "doctor", "engines", "engines.library", "runtime"}),
    # The device path runs engines, which it reaches from inside a function.
    "runtime": GROUND | {"engines.run"},
    "train": GROUND - {"engines"},
    "export": GROUND | {"train", "runtime", "engines.build", "engines.library"},
    "benchmarks": ROOMS,
    "interop": ROOMS,
    "serve": GROUND | {"runtime", "interop"},
    "page": frozenset({"imaging", "anatomy"}),
    "batch": GROUND | {"runtime", "interop", "page"},
    "commands": ROOMS,
    "cli": ROOMS,
    "__main__": frozenset({"cli"}),
    "doctor": ROOMS,
}
# The doors stay light: they reach these rooms from inside a function, when a command is called.
DOORS = ("cli", "doctor", "commands")
ON_DEMAND = ROOMS - frozenset(DOORS)

TORCH_FREE = (
    "choices",
    "errors",
    "extras",
    "systems",
    "settings",
    "options",
    "keywords",
    "limits",
    "files",
    "diffusion",
    "imaging",
    "anatomy",
    "bundle",
    "engines",
    "engines.library",
    "engines.run",
    "engines.doctor",
    "evaluate",
    "nvidia",
    "precisions",
    "runtime",
    "serve",
    "page",
    "batch",
    "cli",
    "doctor",
    "commands",
)
TRAINING_PACKAGES = {"torch", "onnx", "onnxscript"}
TENSORRT_PACKAGES = {"tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_rtx", "tensorrt_rtx_bindings"}
HEAVY = {
    *TRAINING_PACKAGES,
    *(
        "onnxruntime",
        "openvino",
        "scipy",
        "skimage",
        "matplotlib",
        "surface_distance",
        "pandas",
        "monai",
        "transformers",
        "ray",
    ),
}


def room_of(dotted: str) -> str:
    """`verdiff.imaging.volume` -> `imaging`, `verdiff.engines.run.loading` -> `engines.run`; `verdiff` -> ``""``."""
    parts = dotted.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in ENGINES else parts[0] if parts else ""


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(sources("verdiff").values())


def all_imports() -> list[Import]:
    """Every import of every module of the package."""
    files = sources("verdiff")
    return [found for path in files.values() for found in imports_of(path, frozenset(files))]


def forbidden(imports: list[Import]) -> list[str]:
    """Imports between rooms that the table does not allow, with the module and line."""
    return [
        f"{found.where}: imports {found.target}"
        for found in imports
        if found.target.split(".")[0] == "verdiff"
        and (target := room_of(found.target))
        and (room := room_of(found.module))
        and target != room
        and target not in MAY_IMPORT[room] | EVERYWHERE
    ]


def test_every_module_belongs_to_a_room_the_table_knows() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert rooms - {"__init__"} <= set(MAY_IMPORT)


def test_rooms_import_only_what_they_may() -> None:
    assert forbidden(all_imports()) == []


def test_a_room_that_reaches_up_is_found(tmp_path: Path) -> None:
    room = tmp_path / "verdiff" / "imaging"
    room.mkdir(parents=True)
    (tmp_path / "verdiff" / "cli.py").touch()
    (room / "bad.py").write_text(
        "from ..runtime import Segmenter\n"
        "from . import reading\n"
        "def late():\n    import verdiff.train.trainer\n"
        "    from verdiff import cli, __version__\n",
        "utf-8",
    )
    found = list(imports_of(room / "bad.py", frozenset(sources("verdiff", root=tmp_path)), tmp_path))
    assert [line.rsplit(" ", 1)[1] for line in forbidden(found)] == [
        "verdiff.runtime",
        "verdiff.train.trainer",
        "verdiff.cli",
    ]
    assert [item.at_load for item in found if item.target == "verdiff.train.trainer"] == [False]


def test_the_package_imports_nothing_of_what_is_run_from_a_checkout() -> None:
    outside = {"studies", "tools", "tests"}
    assert [found.where for found in all_imports() if found.target.split(".")[0] in outside] == []


def test_the_library_of_the_studies_imports_no_study() -> None:
    files = sources("studies", "verdiff")
    upwards = [
        found.where
        for module, path in files.items()
        if module.startswith("studies.library")
        for found in imports_of(path, frozenset(files))
        if found.target.startswith("studies.") and not found.target.startswith("studies.library")
    ]
    assert upwards == []


def test_no_modules_import_each_other() -> None:
    """Types count too: two modules that name each other's types are one module in two files."""
    assert circles(import_graph("verdiff", "studies", "tools")) == []


def test_a_circle_is_found_through_types_functions_and_names_put_together(tmp_path: Path) -> None:
    package = tmp_path / "verdiff"
    package.mkdir()
    texts = {
        "__init__": "",
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from verdiff.b import B\n",
        "b": "def late():\n    from . import c\n",
        "c": "from importlib import import_module\nimport_module(f'verdiff.{name}')\n",
        "d": "import verdiff.a\n",
    }
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text, "utf-8")
    assert circles(import_graph("verdiff", root=tmp_path)) == [["verdiff.a", "verdiff.b", "verdiff.c", "verdiff.d"]]
    (package / "c.py").write_text("import verdiff\n", "utf-8")
    assert circles(import_graph("verdiff", root=tmp_path)) == []


def test_the_command_line_reaches_the_rooms_only_from_inside_its_commands() -> None:
    early = [
        f"{found.where}: {found.target}"
        for found in all_imports()
        if room_of(found.module) in DOORS and found.at_load and room_of(found.target) in ON_DEMAND
    ]
    assert early == []


def test_torch_and_onnx_stay_out_of_everything_but_training_export_and_benchmarks() -> None:
    found = [
        f"{found.where}: {found.target}"
        for found in all_imports()
        if room_of(found.module) in TORCH_FREE and found.target.split(".")[0] in TRAINING_PACKAGES
    ]
    assert found == []


def test_the_ground_of_the_engines_home_knows_neither_onnx_nor_tensorrt() -> None:
    """Whoever only looks for an engine, or says which would load, starts no library that wants a driver."""
    found = [
        f"{found.where}: {found.target}"
        for found in all_imports()
        if room_of(found.module) == "engines" and found.target.split(".")[0] in TRAINING_PACKAGES | TENSORRT_PACKAGES
    ]
    assert found == []
    loaded = modules_after("import verdiff.engines")
    assert {name.split(".")[0] for name in loaded} & (TRAINING_PACKAGES | TENSORRT_PACKAGES) == set()
    assert [name for name in loaded if room_of(name) in ENGINES - {"engines"} | {"runtime", "export"}] == []


def test_tensorrt_is_started_in_one_place() -> None:
    """It keeps the first logger of a process, so a second one would hear nothing."""
    loggers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Tuple | ast.ClassDef)
        for base in (node.elts if isinstance(node, ast.Tuple) else node.bases)
        if isinstance(base, ast.Attribute) and base.attr == "ILogger"
    }
    assert loggers == {"engines/library.py"}


def test_inference_libraries_come_in_by_the_door_that_keeps_them_silent() -> None:
    """Whoever imports ONNX Runtime or OpenVINO elsewhere may be the first to, and then they call home."""
    found = [
        f"{found.where}: {found.target}"
        for found in all_imports()
        if found.target.split(".")[0] in ("onnxruntime", "openvino")
    ]
    assert {where.split(":")[0] for where in found} == {"verdiff.runtime.silent"}, found


def test_the_diffusion_room_needs_nothing_but_numpy() -> None:
    outside = {
        found.target.split(".")[0]
        for found in all_imports()
        if room_of(found.module) == "diffusion" and found.target.split(".")[0] not in sys.stdlib_module_names
    }
    assert outside == {"numpy", "verdiff"}


def test_only_the_loop_and_the_exported_graph_apply_a_sampler_table() -> None:
    """A table's rows cannot be applied without reading them, so whoever reads them is a host loop, or uploads them."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "coefficients"
    }
    assert {name for name in readers if name not in ("diffusion/tables.py", "export/pipeline.py")} == {
        "diffusion/loop.py",
        "runtime/device/workspace.py",
        # A rival is a host of its own: the loop in PyTorch.
        "benchmarks/torch_loop.py",
    }


def modules_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def loaded_by(statement: str) -> set[str]:
    """Their top-level packages."""
    return {name.split(".")[0] for name in modules_after(statement)}


@pytest.mark.parametrize(
    "module", ["verdiff.runtime", "verdiff.imaging", "verdiff.bundle", "verdiff.serve", "verdiff.batch", "verdiff.cli"]
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_importing_the_runtime_loads_exactly_numpy_and_the_ground_floor() -> None:
    third_party = loaded_by("import verdiff.runtime") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert {name for name in third_party if not name.startswith("_")} == {"numpy", "verdiff"}


LOAD = "from verdiff.runtime import Segmenter; Segmenter.load(self_test=True)"


@pytest.mark.parametrize("statement", ["import verdiff.runtime", LOAD])
def test_a_host_with_slices_and_no_gpu_loads_neither_what_drives_one_nor_what_takes_volumes(statement: str) -> None:
    loaded = modules_after(statement)
    rooms = (
        "verdiff.runtime.device",
        "verdiff.engines",
        "verdiff.runtime.volumetric",
    )
    assert [name for name in sorted(loaded) if name.startswith(rooms)] == []
    assert "verdiff.runtime.segmenter" in loaded
