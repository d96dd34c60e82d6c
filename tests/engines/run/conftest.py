"""The tiny bundles of the runtime's tests."""

from tests.runtime.conftest import bundle_path, single_pass_path

__all__ = ["bundle_path", "single_pass_path"]
