"""The packages of others that an installation of verdiff runs on: which, in which version, under which licence.

Read from the metadata of what is installed, in this environment or in another, by following requirements from
``pyproject.toml`` on.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

# What packages write that is no SPDX expression. Where a text fits several, the package's own licence file was read.
_SPDX = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "MIT": "MIT",
}
_READ = {"scipy": "BSD-3-Clause", "scikit-image": "BSD-3-Clause"}


@dataclass(frozen=True)
class Package:
    """One package of others.

    Attributes:
        name: Name, as its authors write it.
        version: Installed.
        licence: SPDX expression.
        summary: Its own line of what it is.
        page: Where it comes from, or nothing.
        extra: The first extra of verdiff that brings it; empty for what every installation has.
        needs: Names, in normal form, of the packages it requires here.
    """

    name: str
    version: str
    licence: str
    summary: str
    page: str
    extra: str
    needs: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name in normal form (PEP 503)."""
        return normal(self.name)


def normal(name: str) -> str:
    """A package's name in normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(extras: Iterable[str], *, installed: Path | None = None) -> list[Package]:
    """Everything that verdiff with these extras brings, in alphabetical order within an extra.

    Args:
        extras: Extras of ``pyproject.toml``, in the order they are counted in.
        installed: The ``site-packages`` to look in; None is this environment's.

    Raises:
        LookupError: A package is not installed there, or states no licence that is known here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    there = _installed(installed)
    found: dict[str, Package] = {}
    for extra in ("", *extras):
        wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
        before = len(found)
        for requirement in wanted:
            _follow(Requirement(requirement), extra, there, found)
        new = list(found.items())[before:]
        for key, _ in new:
            del found[key]
        found.update(sorted(new))
    return list(found.values())


def _installed(place: Path | None) -> dict[str, metadata.Distribution]:
    every = metadata.distributions() if place is None else metadata.distributions(path=[str(place)])
    # The first that is found is the one that is imported.
    there: dict[str, metadata.Distribution] = {}
    for each in every:
        there.setdefault(normal(each.metadata["Name"]), each)
    return there


def _follow(
    requirement: Requirement, extra: str, there: Mapping[str, metadata.Distribution], found: dict[str, Package]
) -> None:
    key = normal(requirement.name)
    if key in found or key == "verdiff":
        return
    if key not in there:
        raise LookupError(f"{requirement.name} is not installed here; it is required by verdiff[{extra}]")
    about = there[key]
    needs = [each for each in map(Requirement, about.requires or ()) if _holds(each, requirement.extras)]
    found[key] = Package(
        about.metadata["Name"],
        about.version,
        _licence(key, about),
        about.metadata["Summary"] or "",
        _page(about),
        extra,
        tuple(sorted({normal(each.name) for each in needs})),
    )
    for each in needs:
        _follow(each, extra, there, found)


def _holds(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def _licence(key: str, about: metadata.Distribution) -> str:
    said = about.metadata
    if said["License-Expression"]:
        return str(said["License-Expression"])
    if key in _READ:
        return _READ[key]
    texts = [each for each in said.get_all("Classifier") or [] if each.startswith("License ::")]
    for text in (*texts, (said["License"] or "").strip()):
        if text in _SPDX:
            return _SPDX[text]
    raise LookupError(f"{said['Name']} states the licence {texts or said['License']!r}: read it and add it here")


def _page(about: metadata.Distribution) -> str:
    links = dict(link.split(", ", 1) for link in about.metadata.get_all("Project-URL") or [] if ", " in link)
    by_name = {name.lower(): url for name, url in links.items()}
    for name in ("source", "source code", "repository", "github", "homepage", "home"):
        if name in by_name:
            return str(by_name[name])
    return str(about.metadata["Home-page"] or next(iter(links.values()), ""))
