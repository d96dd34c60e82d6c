"""The table of structures to score: name -> label id, from text, from a mapping or from nnU-Net's dataset.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from verdiff.errors import DataError

LabelSource = Mapping[str, int] | str | Path | None
"""What a caller may give as labels; see :func:`label_table`."""


def label_table(source: LabelSource, references: Path) -> dict[str, int]:
    """The structures to score, in the order they were given.

    Args:
        source: A mapping name -> id; text such as ``"vertebra=1,disc=2"``; the path of a ``dataset.json``; or None,
            which looks for ``dataset.json`` in the references' folder and in the one above (nnU-Net's layout).
        references: The folder (or file) of the reference masks.

    Raises:
        DataError: No table was found, or it names no foreground structure, a structure twice or an id that is no whole
            number above 0.
    """
    if source is None:
        source = _beside(references)
    if isinstance(source, Mapping):
        return _checked(dict(source), "the labels")
    if isinstance(source, Path) or source.endswith(".json"):
        return _from_dataset_json(Path(source))
    return table_in(source)


def ignored_label(references: Path) -> int | None:
    """The id of nnU-Net's label ``ignore``, of whose voxels nothing is known.

    Args:
        references: The folder (or file) of the reference masks; a dataset.json may lie in it or above it.

    Returns:
        None where no dataset.json states one.

    Raises:
        DataError: It is stated, and no whole number above 0.
    """
    path = _description_beside(references)
    try:
        stated = None if path is None else json.loads(path.read_text(encoding="utf-8"))["labels"].get("ignore")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A dataset.json that cannot be used matters only where labels are to be taken from it.
        return None
    if stated is not None and (type(stated) is not int or stated < 1):
        raise DataError(f"the label 'ignore' is {stated!r}", "a whole number above 0", "correct dataset.json")
    return stated


def _beside(references: Path) -> Path:
    found = _description_beside(references)
    if found is not None:
        return found
    if not references.exists():
        raise DataError(f"there is no file or folder {references}", "the reference masks", "check the path")
    folder = references if references.is_dir() else references.parent
    raise DataError(
        f"no labels given, and no dataset.json in {folder} or above it",
        "a name and an id for each structure",
        "give the labels, for example vertebra=1,disc=2,canal=3, or the path of a dataset.json",
    )


def _description_beside(references: Path) -> Path | None:
    folder = references if references.is_dir() else references.parent
    return next((path for path in (folder / "dataset.json", folder.parent / "dataset.json") if path.is_file()), None)


def table_in(text: str) -> dict[str, int]:
    """The structures of a text such as ``"vertebra=1,disc=2"``.

    Raises:
        DataError: It names no structure, one twice, or an id that is no whole number above 0.
    """
    table: dict[str, int] = {}
    for part in text.split(","):
        name, separator, number = (piece.strip() for piece in part.partition("="))
        if not (name and separator and number.isdecimal()) or name in table:
            raise DataError(
                f"labels {text!r}, unclear at {part.strip()!r}",
                "name=id pairs with commas between them, each name once",
                "write for example vertebra=1,disc=2,canal=3",
            )
        table[name] = int(number)
    return _checked(table, f"labels {text!r}")


def _from_dataset_json(path: Path) -> dict[str, int]:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))["labels"]
        pairs = dict(stated.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: {type(error).__name__}: {error}",
            'a JSON file with a table "labels": {"background": 0, "name": id, ...}',
            "give the data set's dataset.json, or the labels as name=id pairs",
        ) from error
    foreground = {name: label for name, label in pairs.items() if label != 0 and name not in ("background", "ignore")}
    return _checked(foreground, f"the labels of {path.name}")


def _checked(table: dict[str, int], where: str) -> dict[str, int]:
    wrong = {name: label for name, label in table.items() if type(label) is not int or label < 1}
    if wrong or not table:
        raise DataError(
            f"{where}: {wrong or 'no structure'}",
            "at least one structure, each with one whole number above 0 (0 is background)",
            "correct the labels; score a region of several ids as separate structures",
        )
    if len(set(table.values())) != len(table):
        raise DataError(f"{where}: {table}", "a different id for each structure", "correct the ids")
    return table
