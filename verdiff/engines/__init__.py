"""The contract between whoever builds a TensorRT engine and whoever runs it: keys, sidecars, shapes and the cache.

An engine is ``NAME.plan`` and ``NAME.json`` in a folder of this user's cache, named by a fingerprint of everything
that makes it another engine. It is built on the machine, and never part of a bundle. docs/engines.md explains.
"""

from __future__ import annotations

from verdiff.choices import ENGINE_ROLES
from verdiff.engines.choosing import select_engine
from verdiff.engines.flavours import (
    FLAVOURS,
    TENSORRT,
    TENSORRT_RTX,
    Flavour,
    Package,
    find_package,
    installed_flavours,
    require_package,
)
from verdiff.engines.machine import (
    Machine,
    build_arguments,
    differences,
    driver_too_old,
    rebuild_command,
    require_match,
)
from verdiff.engines.roles import STORED, engine_roles, missing_graph, stored_hash
from verdiff.engines.shapes import Bucket, ProfileShape, TensorRange, buckets
from verdiff.engines.sidecar import (
    FLAGS,
    HARDWARE_COMPATIBLE,
    RECIPE,
    VERSION_COMPATIBLE,
    EngineKey,
    Sidecar,
    TensorInfo,
)
from verdiff.engines.store import (
    cache_folder,
    cache_path,
    engine_lock,
    engine_path,
    find_engines,
    place_file,
    prepare_folder,
    read_engine,
    read_plan,
    read_sidecar,
    write_engine,
)
from verdiff.precisions import ENGINE_PRECISIONS, engine_precision

__all__ = [
    "ENGINE_PRECISIONS",
    "ENGINE_ROLES",
    "FLAGS",
    "FLAVOURS",
    "HARDWARE_COMPATIBLE",
    "RECIPE",
    "STORED",
    "TENSORRT",
    "TENSORRT_RTX",
    "VERSION_COMPATIBLE",
    "Bucket",
    "EngineKey",
    "Flavour",
    "Machine",
    "Package",
    "ProfileShape",
    "Sidecar",
    "TensorInfo",
    "TensorRange",
    "buckets",
    "build_arguments",
    "cache_folder",
    "cache_path",
    "differences",
    "driver_too_old",
    "engine_lock",
    "engine_path",
    "engine_precision",
    "engine_roles",
    "find_engines",
    "find_package",
    "installed_flavours",
    "missing_graph",
    "place_file",
    "prepare_folder",
    "read_engine",
    "read_plan",
    "read_sidecar",
    "rebuild_command",
    "require_match",
    "require_package",
    "select_engine",
    "stored_hash",
    "write_engine",
]
