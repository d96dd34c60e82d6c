"""Everything a call will write is checked as a whole before anything is computed: nothing of a user's is in the way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from verdiff.errors import OutputError
from verdiff.files import mark_file, plan_files


def foreign(path: Path) -> None:
    path.write_text("somebody's own", "utf-8")


def ours(path: Path) -> None:
    path.write_text("{}", "utf-8")
    mark_file(path)


def changed(path: Path) -> None:
    ours(path)
    path.write_text(path.read_text("utf-8") + " ", "utf-8")


def protected(path: Path) -> None:
    ours(path)
    path.chmod(0o444)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.json")


def linked(path: Path) -> None:
    foreign(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to(os.devnull)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


REPLACED_IF_ASKED = (foreign, changed, protected, dangling, linked)
NEVER_REPLACED = (folder, pipe, device, listening)


@pytest.mark.parametrize("put", [*REPLACED_IF_ASKED, *NEVER_REPLACED], ids=lambda put: put.__name__)
def test_what_is_not_verdiffs_is_in_the_way(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "a.json")
    with pytest.raises(OutputError, match=r"a\.json") as refusal:
        plan_files({"report": tmp_path / "a.json"})
    assert ("--overwrite" in refusal.value.remedy) == (put in REPLACED_IF_ASKED)


@pytest.mark.parametrize("put", NEVER_REPLACED, ids=lambda put: put.__name__)
def test_folders_devices_pipes_and_sockets_are_never_replaced(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "a.json")
    with pytest.raises(OutputError, match=r"a\.json"):
        plan_files({"report": tmp_path / "a.json"}, overwrite=True)


@pytest.mark.parametrize("put", REPLACED_IF_ASKED, ids=lambda put: put.__name__)
def test_what_a_user_says_may_be_replaced_is_and_what_a_link_leads_to_stays(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path / "a.json")
    with plan_files({"report": tmp_path / "a.json"}, overwrite=True).staged() as staged:
        staged[tmp_path / "a.json"].write_text('{"new": 1}', "utf-8")
    assert '"new": 1' in (tmp_path / "a.json").read_text("utf-8") and not (tmp_path / "a.json").is_symlink()
    if put is linked:
        assert (tmp_path / "elsewhere").read_text("utf-8") == "somebody's own"
    assert not (tmp_path / "nowhere.json").exists()


def test_an_earlier_file_of_verdiffs_is_replaced(tmp_path: Path) -> None:
    ours(tmp_path / "a.json")
    with plan_files({"report": tmp_path / "a.json"}).staged() as staged:
        staged[tmp_path / "a.json"].write_text('{"new": 1}', "utf-8")
    with plan_files({"report": tmp_path / "a.json"}).staged() as staged:
        staged[tmp_path / "a.json"].write_text('{"newer": 1}', "utf-8")
    assert "newer" in (tmp_path / "a.json").read_text("utf-8")


@pytest.mark.parametrize("name", ["itself", "hard", "soft", "through"])
def test_an_input_is_never_written_to_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    scan = tmp_path / "scan.json"
    ours(scan)
    places = {
        "itself": scan,
        "hard": tmp_path / "hard.json",
        "soft": tmp_path / "soft.json",
        "through": tmp_path / "link" / "scan.json",
    }
    os.link(scan, places["hard"])
    places["soft"].symlink_to(scan)
    (tmp_path / "link").symlink_to(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is the scan itself"):
            plan_files({"report": places[name]}, inputs={"scan": scan}, overwrite=overwrite)


@pytest.mark.parametrize("image", ["sub-01_T2w.nii.gz", "sub-01_T2w.nii", "sub-01_T2w.mha"])
@pytest.mark.parametrize("there", [True, False])
def test_a_json_that_a_data_set_has_for_an_image_is_never_ours(tmp_path: Path, image: str, there: bool) -> None:
    (tmp_path / image).write_bytes(b"an image")
    if there:
        foreign(tmp_path / "sub-01_T2w.json")
    files = {"mask": tmp_path / "sub-01_T2w.nrrd", "report": tmp_path / "sub-01_T2w.json"}
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=f"the JSON of {image}"):
            plan_files(files, overwrite=overwrite)


def test_one_place_for_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="for the mask and for the report"):
        plan_files({"mask": tmp_path / "a.json", "report": tmp_path / "a.json"})


def test_the_longest_name_that_fits_is_taken_and_a_longer_one_is_told_how_long_it_is(tmp_path: Path) -> None:
    longest = tmp_path / ("ä" * 125 + ".json")
    with plan_files({"report": longest}).staged() as staged:
        staged[longest].write_text("{}", "utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
    with pytest.raises(OutputError, match="a name of 257 bytes"):
        plan_files({"report": tmp_path / ("ä" * 126 + ".json")})


def test_a_path_without_room_for_a_temporary_file_is_refused(tmp_path: Path) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) < 3800:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    name = "m" * (4096 - 20 - len(os.fsencode(deep))) + ".json"
    with pytest.raises(OutputError, match="a path of"):
        plan_files({"report": deep / name})


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no name for a file"):
        plan_files({"report": tmp_path / "a\0.json"})


def test_a_missing_folder_is_made_only_where_that_was_said(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.json"
    with pytest.raises(OutputError, match="there is no folder"):
        plan_files({"report": path})
    plan = plan_files({"report": path}, make=True)
    assert not list(tmp_path.iterdir())
    with plan.staged() as staged:
        staged[path].write_text("{}", "utf-8")
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    foreign(tmp_path / "file")
    with pytest.raises(OutputError, match="file is no folder"):
        plan_files({"report": tmp_path / "file" / "a.json"}, make=True)


def test_a_place_that_is_taken_after_the_plan_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    files = {"mask": tmp_path / "a.md", "report": tmp_path / "a.json"}
    ours(files["report"])
    before = files["report"].read_bytes()
    plan = plan_files(files)
    with pytest.raises(OutputError, match=r"a\.md is there"), plan.staged() as staged:
        for path in files.values():
            staged[path].write_text("{}", "utf-8")
        foreign(files["mask"])
    assert files["mask"].read_text("utf-8") == "somebody's own"
    assert files["report"].read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.md"]


def test_a_relative_place_in_a_working_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="working folder is gone"):
        plan_files({"report": Path("a.json")})
