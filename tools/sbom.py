"""Software bills of materials in CycloneDX 1.6: of a lean installation and of a bundle.

``python -m tools.sbom ENVIRONMENT FOLDER`` writes both into a folder, for the verdiff that is installed in a virtual
environment. Each is checked against the schema before it is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from tools.packages import Package, packages
from verdiff import __version__
from verdiff.bundle import Bundle, open_bundle, resolve_model

LEAN = ("cpu",)
_VERSION = SchemaVersion.V1_6
_LICENCE = "Apache-2.0"


def lean_bom(extras: tuple[str, ...] = LEAN, *, installed: Path | None = None) -> Bom:
    """What is installed with verdiff and some extras, and what of it requires what.

    Args:
        extras: Extras of verdiff.
        installed: The ``site-packages`` of the installation; None is this environment's.

    Raises:
        LookupError: A package is not installed there, or states no licence that is known.
    """
    name = f"verdiff[{','.join(extras)}]"
    bom = Bom()
    root = _component("verdiff", __version__, _LICENCE, ComponentType.APPLICATION, description=name)
    bom.metadata.component = root
    listed = packages(extras, installed=installed)
    parts = {each.key: _library(each) for each in listed}
    for part in parts.values():
        bom.components.add(part)
    for each in listed:
        bom.register_dependency(parts[each.key], [parts[need] for need in each.needs])
    required = {need for each in listed for need in each.needs}
    bom.register_dependency(root, [part for key, part in parts.items() if key not in required])
    return bom


def bundle_bom(bundle: Bundle) -> Bom:
    """What a bundle holds: the model, every file with its hash, and the data it was trained on."""
    manifest = bundle.manifest
    bom = Bom()
    model = Component(
        name=manifest.model_id,
        version=manifest.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{manifest.model_id}@{manifest.version}",
        description=manifest.intended_use,
        hashes=[_sha256(bundle.manifest_sha256)],
        properties=[
            Property(name="verdiff:hash-of", value="manifest.json, which holds the hash of every other file"),
            *(Property(name="verdiff:limit", value=limit) for limit in manifest.limits),
        ],
    )
    bom.metadata.component = model
    files = [
        Component(
            name=name,
            type=ComponentType.FILE,
            bom_ref=f"file:{name}",
            hashes=[_sha256(digest)],
        )
        for name, digest in manifest.files.items()
    ]
    said = {
        key: str(manifest.training[key]) for key in ("source", "licence", "attribution") if key in manifest.training
    }
    data = Component(
        name=str(manifest.training.get("data_set", "training data")),
        type=ComponentType.DATA,
        bom_ref="data:training",
        description=str(manifest.training.get("statement", "")) or None,
        properties=[Property(name=f"verdiff:{key}", value=value) for key, value in said.items()],
    )
    for part in (*files, data):
        bom.components.add(part)
    bom.register_dependency(model, [*files, data])
    return bom


def as_json(bom: Bom) -> str:
    """A bill as JSON that holds to the schema.

    Raises:
        ValueError: It does not; with the schema's own words.
    """
    text = str(make_outputter(bom, OutputFormat.JSON, _VERSION).output_as_string(indent=1))
    wrong = JsonStrictValidator(_VERSION).validate_str(text)
    if wrong is not None:
        raise ValueError(f"no bill of CycloneDX {_VERSION.to_version()}: {wrong}")
    return text + "\n"


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _library(package: Package) -> Component:
    pages = []
    if package.page:
        pages.append(ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(package.page)))
    return _component(
        package.key, package.version, package.licence, ComponentType.LIBRARY, description=package.summary, pages=pages
    )


def _component(
    name: str,
    version: str,
    licence: str,
    kind: ComponentType,
    *,
    description: str,
    pages: list[ExternalReference] | None = None,
) -> Component:
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=kind,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(licence)],
        description=description,
        external_references=pages or [],
    )


def main(environment: Path, folder: Path) -> None:
    """Write both bills."""
    (installed,) = environment.glob("lib/python*/site-packages")
    folder.mkdir(parents=True, exist_ok=True)
    bundle = open_bundle(resolve_model())
    named = {
        f"verdiff-{__version__}": lean_bom(installed=installed),
        f"{bundle.manifest.model_id}-{bundle.manifest.version}": bundle_bom(bundle),
    }
    for name, bom in named.items():
        place = folder / f"{name}.cdx.json"
        place.write_text(as_json(bom), "utf-8")
        print(f"{place}: {len(bom.components)} components")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
