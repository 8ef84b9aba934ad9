"""pyVoIP's pieces are really on the path of a call, and nothing of pyVoIP runs by itself."""

import re
import subprocess
import sys
from pathlib import Path

import pyVoIP.SIP
from sipwire import OFFER, Hand, Net, lines, request

from sipherd import worker
from sipherd.worker.pyvoip import PayloadType, SIPStatus, phrase, status
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.stack import Answered, Media, Send


def test_a_call_goes_through_pyvoips_sdp_parser_and_data_model(monkeypatch):
    parsed = []
    original = pyVoIP.SIP.SIPMessage.parse_body

    def spy(self, header, data):
        parsed.append((type(self), header, data))
        original(self, header, data)

    monkeypatch.setattr(pyVoIP.SIP.SIPMessage, "parse_body", spy)
    net = Net()
    net.place()
    net.run(1.0)
    net.do("b", net.engines["b"].answer("i1", _media(), net.now))
    net.run(2.0)
    assert net.events("a", Answered)[0].codec == PayloadType.PCMU.description
    media = [data for _, header, data in parsed if header == "m"]
    assert media == ["audio 4000 RTP/AVP 0 8 101", "audio 4002 RTP/AVP 0 8 101"]
    assert issubclass(Message, pyVoIP.SIP.SIPMessage)


def test_every_message_of_a_call_is_pyvoips_model_with_pyvoips_status():
    """What goes over the wire is built from, and read into, pyVoIP's types."""
    net = Net()
    net.place()
    net.run(1.0)
    net.do("b", net.engines["b"].answer("i1", _media(), net.now))
    net.run(2.0)
    net.do("a", net.engines["a"].hang_up("c1", net.now))
    net.run(3.0)
    seen = []
    for _, _, output in net.log:
        if not isinstance(output, Send):
            continue
        message = parse(output.data)
        assert isinstance(message, pyVoIP.SIP.SIPMessage)
        assert message.version in pyVoIP.SIPCompatibleVersions
        if message.type is pyVoIP.SIP.SIPMessageType.MESSAGE:
            assert message.method in output.data.decode()
            seen.append(message.method)
        else:
            assert isinstance(message.status, pyVoIP.SIP.SIPStatus)
            line = f"SIP/2.0 {int(message.status)} {message.status.phrase}\r\n"
            assert output.data.startswith(line.encode())
            seen.append(int(message.status))
    assert seen == ["INVITE", 180, 200, "ACK", "BYE", 200]


def test_without_pyvoips_parser_there_is_no_media(monkeypatch):
    """No parser of our own stands behind it."""
    monkeypatch.setattr(pyVoIP.SIP.SIPMessage, "parse_body", lambda self, header, data: None)
    hand = Hand()
    assert lines(hand.receive(request("INVITE", body=OFFER))) == ["400"]


def test_only_one_package_imports_it():
    root = Path(worker.__file__).resolve().parent
    importers = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if re.search(r"^\s*(import|from)\s+pyVoIP", path.read_text(), re.MULTILINE)
    }
    assert importers == {"pyvoip"}


def test_phrases_are_pyvoips():
    assert phrase(486) == SIPStatus.BUSY_HERE.phrase == "Busy Here"
    assert status(699) is SIPStatus.BUSY_EVERYWHERE


def test_importing_starts_no_thread():
    program = (
        "import threading, sipherd.worker.sip.engine; "
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def _media():
    return Media(host="192.0.2.9", port=4002)
