"""What is said of a machine, and what is kept quiet."""

from __future__ import annotations

import getpass
import importlib.util
import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy

from verdiff.benchmarks.environment import Environment, describe_machine, library_versions, parse_cpuinfo

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512_bf16 fma

processor\t: 1
model name\t: Another CPU
"""

QUIET = Environment("Some CPU", 2, 8.0, ("avx2",), "Linux x86_64", "3.11.0", 0.1)


def test_model_and_telling_flags_come_from_cpuinfo():
    assert parse_cpuinfo(CPUINFO) == ("Some CPU @ 2.00GHz", ("avx2", "fma", "avx512_bf16"))


def test_an_arm_processor_s_features_count_as_flags():
    assert parse_cpuinfo("processor : 0\nFeatures : fp asimd bf16\n") == ("", ("asimd", "bf16"))


def test_neither_host_nor_user_nor_path_is_in_the_description():
    text = json.dumps(describe_machine().to_dict())
    assert json.loads(text)["cores"] >= 1
    assert f'"{platform.node()}"' not in text
    assert str(Path.home()) not in text
    assert f'"{getpass.getuser()}"' not in text


def test_only_installed_libraries_have_a_version():
    versions = library_versions()
    assert versions["numpy"] == numpy.__version__
    assert all(importlib.util.find_spec(name) for name in versions if name in ("torch", "openvino", "onnxruntime"))


def test_a_busy_machine_is_a_reason_for_doubt():
    assert QUIET.doubts() == ()
    assert "load average was 3.2" in replace(QUIET, load=3.2).doubts()[0]
    assert replace(QUIET, load=None).doubts() == ()


def test_what_others_did_during_the_run_counts_more_than_the_load_before_it():
    assert replace(QUIET, load=3.2, others=0.01).doubts() == ()
    assert "took 30% of the 2 core(s)' time" in replace(QUIET, load=0.1, others=0.3).doubts()[0]
