"""An engine loads where it fits; where it does not, the message says in what and how to build one that does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.make import HERE, REBUILD, make_key, make_sidecar
from verdiff.engines import (
    Machine,
    Sidecar,
    build_arguments,
    differences,
    rebuild_command,
    require_match,
    select_engine,
)
from verdiff.errors import BackendError
from verdiff.options import BuildOptions

RTX = Machine("tensorrt_rtx", "1.7.1.116", "13", "580.65.06", (13, 0), "89", "NVIDIA GeForce RTX 4090")
PORTABLE = make_sidecar(
    make_key(flavour="tensorrt_rtx", trt_version="1.7.1.116", sm="80,86,89,120,121", gpu_name=""), gpu_name=""
)


def test_an_engine_loads_where_it_was_built() -> None:
    assert differences(make_sidecar(), HERE) == []
    require_match(make_sidecar(), HERE)


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (replace(HERE, trt_version="11.4.0.106"), "built by TensorRT 10.13.0.35, and this machine has 11.4.0.106"),
        (replace(HERE, trt_version="10.13.0.34"), "this machine has 10.13.0.34"),
        (replace(HERE, sm="86", gpu_name="NVIDIA A10"), "built for SM 90, and this machine's NVIDIA A10 is SM 86"),
        (replace(HERE, gpu_name="NVIDIA H100"), "tuned for NVIDIA H200, and this machine has NVIDIA H100"),
        (replace(HERE, cuda_version="12"), "built for CUDA 13, and TensorRT is here for CUDA 12"),
        (replace(HERE, lean=True), "not version-compatible, and this machine has TensorRT's lean runtime"),
        (RTX, "it is TensorRT's, and this machine runs TensorRT-RTX"),
    ],
)
def test_an_engine_of_another_machine_is_refused_with_the_command_that_builds_it_here(
    machine: Machine, told: str
) -> None:
    with pytest.raises(BackendError) as caught:
        require_match(make_sidecar(), machine)
    assert told in caught.value.found
    assert make_key().stem in caught.value.found
    assert str(machine) in caught.value.expected
    option = "tensorrt-rtx" if machine is RTX else "tensorrt"
    assert caught.value.remedy == REBUILD.removesuffix("tensorrt") + option


def test_everything_that_differs_is_told_at_once() -> None:
    other = replace(HERE, trt_version="11.4.0.106", cuda_version="12", sm="86", gpu_name="NVIDIA A10")
    assert len(differences(make_sidecar(), other)) == 3


def test_a_driver_too_old_is_to_be_updated_first() -> None:
    old = replace(HERE, driver_version="550.54.14", driver_cuda=(12, 4))
    with pytest.raises(BackendError) as caught:
        require_match(make_sidecar(), old)
    assert "NVIDIA's driver 550.54.14 runs CUDA up to 12.4, and this TensorRT needs CUDA 13" in caught.value.found
    assert caught.value.remedy == f"update NVIDIA's driver to one that runs CUDA 13, then {REBUILD}"


def test_without_a_gpu_no_rebuild_is_suggested() -> None:
    with pytest.raises(BackendError) as caught:
        require_match(make_sidecar(), Machine("tensorrt", "10.13.0.35", "13"))
    assert "shows no NVIDIA GPU" in caught.value.found
    assert "verdiff build" not in caught.value.remedy


def test_an_older_recipe_is_refused() -> None:
    assert "recipe 0" in differences(make_sidecar(make_key(recipe=0)), HERE)[0]


@pytest.mark.parametrize(("version", "fits"), [("10.13.0.35", True), ("11.4.0.106", False), ("10.9.0.34", False)])
def test_a_version_compatible_engine_loads_in_the_lean_runtime_of_its_version(version: str, fits: bool) -> None:
    sidecar = make_sidecar(make_key(flags=("version-compatible",)))
    for lean in (False, True):
        assert (differences(sidecar, replace(HERE, trt_version=version, lean=lean)) == []) is fits


@pytest.mark.parametrize(("sm", "fits"), [("75", False), ("80", True), ("90", True), ("120", True)])
def test_a_hardware_compatible_engine_loads_from_ampere_on(sm: str, fits: bool) -> None:
    sidecar = make_sidecar(make_key(flags=("hardware-compatible",), sm="80+", gpu_name=""))
    assert (differences(sidecar, replace(HERE, sm=sm, gpu_name="another")) == []) is fits


@pytest.mark.parametrize(("sm", "fits"), [("75", False), ("86", True), ("89", True), ("90", False), ("120", True)])
def test_an_rtx_engine_loads_on_the_sms_it_was_built_for(sm: str, fits: bool) -> None:
    assert (differences(PORTABLE, replace(RTX, sm=sm)) == []) is fits


def test_a_package_that_does_not_say_its_cuda_is_no_difference() -> None:
    assert differences(make_sidecar(make_key(cuda_version="")), HERE) == []
    assert differences(make_sidecar(), replace(HERE, cuda_version="", driver_cuda=(12, 0))) == []


def test_the_command_repeats_what_was_asked_for() -> None:
    words = build_arguments(
        BuildOptions(
            "my models/m.verdiff",
            "fp16",
            ("step",),
            hardware_compatible=True,
            version_compatible=True,
            sizes=((640, 512),),
            batch=4,
            workspace_mb=64,
        )
    )
    sidecar = make_sidecar(arguments=words)
    whole = (
        "verdiff build 'my models/m.verdiff' --precision fp16 --role step --version-compatible --hardware-compatible "
        "--size 640x512 --batch 4 --workspace-mb 64 --flavour tensorrt"
    )
    assert rebuild_command(sidecar) == whole
    assert rebuild_command(sidecar, sizes=False) == whole.replace(" --size 640x512", "")


def test_the_very_engine_names_the_gpus_it_was_built_for_and_its_like_does_not() -> None:
    sidecar = make_sidecar(make_key(flavour="tensorrt_rtx", sm="86,89", gpu_name=""))
    assert rebuild_command(sidecar).endswith("--flavour tensorrt-rtx --sm 86 --sm 89")
    assert "--sm" not in rebuild_command(sidecar, replace(HERE, flavour="tensorrt_rtx"))
    assert "--sm" not in rebuild_command(make_sidecar(make_key(sm="90")))
    compatible = make_sidecar(make_key(flavour="tensorrt_rtx", sm="80+", gpu_name=""))
    assert "--sm" not in rebuild_command(compatible)


def test_the_very_engine_is_built_on_the_device_that_was_named_and_its_like_where_the_caller_says() -> None:
    words = build_arguments(BuildOptions("tiny-mr", "fp16", ("prior",), device="cuda:1"))
    sidecar = make_sidecar(arguments=words)
    assert "--device cuda:1" in rebuild_command(sidecar)
    assert "--device" not in rebuild_command(sidecar, HERE)


def test_a_cache_that_was_named_is_named_again() -> None:
    command = rebuild_command(make_sidecar(), cache=Path("/some where"))
    assert command.endswith("--cache '/some where'")


def chosen(there: list[Sidecar], machine: Machine = HERE, **changes: str) -> Sidecar:
    wanted = {"role": "prior", "precision": "fp16", "graph_sha256": "ab" * 32, **changes}
    return select_engine(there, machine, model="tiny.verdiff", **wanted)


def test_the_first_engine_that_fits_is_chosen() -> None:
    other, first, second = make_sidecar(make_key(sm="86")), make_sidecar(), make_sidecar(build_seconds=1.0)
    assert chosen([other, first, second]) is first


@pytest.mark.parametrize("name", ["role", "precision", "graph_sha256"])
def test_an_engine_of_another_role_precision_or_graph_is_not_chosen(name: str) -> None:
    value = {"role": "step", "precision": "fp32", "graph_sha256": "cd" * 32}[name]
    with pytest.raises(BackendError, match="no engine of the") as caught:
        chosen([make_sidecar()], **{name: value})
    assert caught.value.remedy.startswith("verdiff build tiny.verdiff --precision fp")
    assert caught.value.remedy.endswith("--flavour tensorrt")


def test_an_engine_that_does_not_fit_is_named_with_the_reason() -> None:
    with pytest.raises(BackendError) as caught:
        chosen([make_sidecar(make_key(sm="86"))])
    assert "SM 86" in caught.value.found
    assert caught.value.remedy == REBUILD
