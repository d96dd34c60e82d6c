"""COMMAND in XML: what it may say, how it is answered, and that it says nothing else."""

from __future__ import annotations

import struct
from xml.etree import ElementTree

import pyigtl
import pyigtl.messages
import pytest

from tests.runtime.scans import mr_scan
from tests.serve.igtl.mangle import command
from tests.serve.igtl.wire import Got, Peer, image_body
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlServer
from verdiff.serve.igtl.markup import result


def answer_of(got: Got) -> tuple[bool, dict[str, str]]:
    """Whether a command was obeyed, and the items of its answer by name."""
    assert got.kind == "RTS_COMMAND"
    root = ElementTree.fromstring(got.content[138:].decode())
    (told,) = root
    obeyed = told.attrib["Success"] == "TRUE"
    assert (root.tag, told.tag, got.metadata.get("Status")) == (
        *("Command", "Result"),
        {1: None, 2: "SUCCESS" if obeyed else "FAILURE"}[got.version],
    )
    return obeyed, {item.attrib["Name"]: item.attrib.get("Value", "") for item in root.iter("Item")}


def ask(peer: Peer, name: bytes, text: str, version: int = 2) -> tuple[bool, dict[str, str]]:
    peer.send("COMMAND", command(name, text.encode()), version=version)
    return answer_of(peer.receive())


@pytest.mark.parametrize("version", [1, 2])
def test_info_in_xml_says_what_info_in_words_does(server: IgtlServer, client: Client, version: int) -> None:
    with Peer(server.address[1]) as peer:
        obeyed, items = ask(peer, b"Info", "<Command/>", version)
        assert obeyed and items["manifest_sha256"] == client.model["manifest_sha256"]
        assert items["state"] == "ready" and items["surfaces"] == "false" and items["deadline_ms"] == ""


def test_a_deadline_is_set_in_xml_and_info_has_it(peer: Peer) -> None:
    for name, text, deadline in (
        (b"", '<Command Name="Deadline" Value="1500"/>', "1500.0"),
        (b"deadline", '<?xml version="1.0" encoding="UTF-8"?>\n<Command Value="2000"/>', "2000.0"),
        (b"DEADLINE", "<Command Name='deadline' Value='off'></Command>", ""),
    ):
        assert ask(peer, name, text)[0]
        assert ask(peer, b"info", "<Command/>")[1]["deadline_ms"] == deadline


def test_cancel_in_xml_ends_a_job_with_the_mask_there_is(client: Client) -> None:
    with IgtlServer(client, 0, options={"steps": 500, "samples": 200}) as server, Peer(server.address[1]) as peer:
        peer.send("IMAGE", image_body(mr_scan(20)))
        peer.until(lambda got: got.kind == "IMAGE")
        peer.send("COMMAND", command(b"cancel", b'<Command Name="Cancel"/>'), version=2)
        seen = peer.until(lambda got: got.kind == "STATUS")
        (told,) = (answer_of(got) for got in seen if got.kind == "RTS_COMMAND")
        assert told[0] and told[1]["Message"].startswith("cancelled ")
        assert seen[-1].status[:3] == (1, 0, "cancelled")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (b"", "<Command/>", "the words ''"),
        (b"SendText", "<Command/>", "SendText"),
        (b"cancel", '<Command Name="info"/>', "'cancel' with XML that names 'info'"),
        (b"info", '<Command Name="info" File="/etc/passwd"/>', "the attributes Name, File"),
        (b"info", "<Other/>", "'Other'"),
        (b"info", "<Command><Param/></Command>", "'Param' inside"),
        (b"info", "<Command", "well-formed"),
        (b"info", '<!DOCTYPE a [<!ENTITY b "info">]><Command Name="&b;"/>', "document type"),
        (b"", '<Command Name="deadline" Value="&lt;\'&quot;&amp;&#10;"/>', "deadline"),
    ],
)
def test_what_else_is_said_is_refused_in_three_parts(peer: Peer, name: bytes, text: str, found: str) -> None:
    obeyed, items = ask(peer, name, text)
    assert not obeyed and found in items["Found"]
    assert set(items) == {"Found", "Expected", "ToDo"} and all(items.values())


def test_names_that_xml_cannot_hold_are_still_well_formed() -> None:
    text = result("info", {'a "label" <&>\x00\x1b\ud800': ["\n", None, True]})
    items = list(ElementTree.fromstring(text.encode("utf-8", "strict")).iter("Item"))
    assert items[0].attrib["Name"] == 'a "label" <&>' + "\N{REPLACEMENT CHARACTER}" * 3
    assert [item.get("Value") for item in items[1:]] == ["\n", None, "true"]


class CommandMessage(pyigtl.messages.MessageBase):  # type: ignore[misc]
    """COMMAND and its answer in pyigtl's own packing, which has neither."""

    def __init__(self, name: str = "", text: str = "") -> None:
        super().__init__(device_name="console")
        self._message_type, self._valid_message, self.header_version = "COMMAND", True, 2
        self.name, self.text = name, text

    def _pack_content(self) -> bytes:
        return command(self.name.encode(), self.text.encode())

    def _unpack_content(self, content: bytes) -> None:
        _, self.name, _, length = struct.unpack_from("!I128sHI", content)
        self.text = content[138 : 138 + length].decode()


def test_pyigtl_is_answered_by_its_number(server: IgtlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pyigtl.messages.message_type_to_class_constructor, "RTS_COMMAND", CommandMessage)
    connection = pyigtl.OpenIGTLinkClient("127.0.0.1", server.address[1])
    assert connection.send_message(CommandMessage("info", '<Command Name="info"/>'))
    answer = connection.wait_for_message("console", timeout=20)
    connection.stop()
    items = {each.get("Name"): each.get("Value") for each in ElementTree.fromstring(answer.text).iter("Item")}
    assert items["id"] == "tiny-mr" and answer.metadata["Status"] == "SUCCESS"
