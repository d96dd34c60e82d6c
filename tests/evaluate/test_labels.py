"""Where the table of structures comes from, and what is refused."""

from __future__ import annotations

import json

import pytest

from verdiff.errors import DataError
from verdiff.evaluate.labels import label_table

EXPECTED = {"vertebra": 1, "disc": 2}


def test_text_and_mapping_name_the_same_structures(tmp_path):
    assert label_table("vertebra=1, disc=2", tmp_path) == label_table(EXPECTED, tmp_path) == EXPECTED


@pytest.mark.parametrize("where", ["labelsTr", "."])
def test_dataset_json_is_found_beside_the_references_and_one_folder_up(tmp_path, where):
    (tmp_path / "labelsTr").mkdir()
    text = json.dumps({"labels": {"background": 0, "vertebra": 1, "disc": 2, "ignore": 3}})
    (tmp_path / where / "dataset.json").write_text(text, "utf-8")
    assert label_table(None, tmp_path / "labelsTr") == EXPECTED
    assert label_table(tmp_path / where / "dataset.json", tmp_path) == EXPECTED


@pytest.mark.parametrize(
    "text", ["", "disc", "disc=", "=2", "disc=two", "disc=2,disc=3", "disc=0", "disc=2,canal=2", "disc=-1"]
)
def test_text_that_is_no_table_is_refused(tmp_path, text):
    with pytest.raises(DataError):
        label_table(text, tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"labels": [1]}', '{"labels": {"whole": [1, 2]}}', '{"labels": {}}']
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content, "utf-8")
    with pytest.raises(DataError):
        label_table(tmp_path / "dataset.json", tmp_path)


def test_no_labels_anywhere_says_how_to_give_them(tmp_path):
    with pytest.raises(DataError, match="vertebra=1,disc=2,canal=3"):
        label_table(None, tmp_path)


def test_references_that_are_not_there_are_named_before_labels_are_asked_for(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        label_table(None, tmp_path / "nowhere")
