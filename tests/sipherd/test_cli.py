"""The command line as a whole: help, mistakes, exit codes, `up` and `check`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from commandline import ENVIRON, HerdIsUp, Run, command, process
from sipherd import Herd
from sipherd.cli import sipherd as group

COMMANDS = [
    *("demo", "up", "check", "ps", "show", "events", "call", "answer", "reject", "cancel"),
    *("hangup", "hold", "retrieve", "transfer", "dtmf", "play", "record"),
    *("register", "unregister", "start", "stop", "restart", "reset", "add", "remove"),
    *("reload", "fault"),
]
#: They read what is written down, and need no herd.
OF_RUNS = ["report", "ladder", "compare"]

EXAMPLES = Path(__file__).parents[2] / "examples"

# Help.


def test_every_command_is_there() -> None:
    assert set(group.commands) == {
        *COMMANDS,
        *OF_RUNS,
        "load",
        "keys",
    }  # which has commands of its own


@pytest.mark.parametrize("name", [*COMMANDS, *OF_RUNS, "load"])
def test_help_shows_an_example(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert f"\n    sipherd {name}" in ran.out
    for option in ("--json",) if name in OF_RUNS else ("--json", "--herd", "--runtime-dir"):
        assert option in ran.out


def test_help_tells_every_command_in_a_line(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    listed = ran.out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == list(group.commands)
    assert not [line for line in listed if line.endswith("...")]


def test_without_a_command_help_and_2(run: Run) -> None:
    ran = run()
    assert ran.code == 2
    assert "Commands:" in ran.err


def test_version(run: Run) -> None:
    ran = run("--version")
    assert ran.code == 0
    assert ran.out.startswith("sipherd, version ")


# Mistakes: one line on stderr, and no herd is needed to make them.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pss"], "No such command 'pss'"),
        (["call"], "Missing argument 'PHONE'"),
        (["call", "alice"], "Missing argument 'TARGET'"),
        (["call", "alice", "bob", "--duration", "soon"], "'soon': expected seconds"),
        (["call", "alice", "bob", "--duration", "1", "--detach"], "--detach or --duration"),
        (["ps", "--herd", "../x"], "'../x': expected 1 to 64 of the characters"),
        (["reject", "c1", "--code", "200"], "200"),
        (["reject", "c1", "--reason", "a\nb"], "no line breaks"),
        (["add", "carol", "--port", "70000"], "port 70000: expected"),
        (["add", "carol", "--reject", "486", "--ring"], "exactly one of"),
        (["add", "carol", "--hang-up-after", "1"], "exactly one of"),
        (["add", "no good"], "name 'no good': expected"),
        (["remove"], "Missing argument"),
        (["up"], "Missing argument 'FILE'"),
    ],
)
def test_usage(run: Run, arguments: Sequence[str], said: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("sipherd: ")
    assert said in line
    assert "--help" in line


@pytest.mark.parametrize(
    "arguments",
    [
        *(["ps"], ["show"], ["events"], ["call", "a", "b"], ["answer"], ["reject", "c1"]),
        *(["cancel", "c1"], ["hangup", "c1"], ["start"], ["stop"], ["restart"], ["reset"]),
        *(["add", "carol"], ["remove", "carol"]),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_herd(run: Run, runtime_dir: Path, arguments: Sequence[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err == (
        f'sipherd: no herd "default" is running (looked in {runtime_dir}); '
        "start one with: sipherd up FILE\n"
    )


def test_another_herd_is_named(run: Run, herd: Herd, runtime_dir: Path) -> None:
    ran = run("ps", "--runtime-dir", str(runtime_dir))
    assert ran.code == 2
    assert f"there: {herd.name}, choose one with --herd" in ran.err


def test_the_runtime_directory_is_an_option(run: Run, tmp_path: Path) -> None:
    ran = run("ps", "--runtime-dir", str(tmp_path))
    assert (ran.code, str(tmp_path) in ran.err) == (2, True)


def test_a_socket_path_that_is_too_long(run: Run) -> None:
    ran = run("ps", "--runtime-dir", "/tmp/" + "x" * 100)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "at most 107" in line


# check


def test_check(run: Run) -> None:
    ran = run("check", str(EXAMPLES / "two-phones.yaml"))
    assert ran.code == 0
    assert ran.out.splitlines()[0].startswith("herd default: 2 phones")
    assert [line.split()[:4] for line in ran.out.splitlines()[2:]] == [
        ["alice", "1001", "127.0.0.1", "5060"],
        ["bob", "1002", "127.0.0.1", "5062"],
    ]


def test_check_for_programs(run: Run) -> None:
    ran = run("check", str(EXAMPLES / "two-phones.yaml"), "--json", "--herd", "other")
    plan = json.loads(ran.out)
    assert (plan["herd"], [phone["port"] for phone in plan["phones"]]) == ("other", [5060, 5062])


BAD = """\
herd: lab
sip: 5060-5064
phones:
  - {name: alice, port: 99999}
  - {name: alice, media: video}
  - {name: carol, display_name: "${NOBODY_SET_THIS}"}
"""


@pytest.mark.parametrize("name", ["check", "up"])
def test_every_problem_of_a_file_is_a_line(run: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    ran = run(name, str(file))
    assert (ran.code, ran.out) == (2, "")
    lines = ran.err.splitlines()
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in lines] == [*"24556"]
    assert "$.phones[0].port" in lines[1]
    assert "NOBODY_SET_THIS" in lines[4]


def test_check_counts_ports(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        'ports: {sip: 5060-5064}\nphones: [{name: "p{n}", count: 4, number: "{n}", media: none}]'
    )
    ran = run("check", str(file))
    assert ran.code == 2
    assert ran.err == (
        f"{file}: $.ports.sip: 4 phones need a SIP port each, in steps of 2, "
        "the range 5060-5064 has 3; expected a wider one\n"
    )


def test_the_environment_is_part_of_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIPHERD_SIP_PORTS", "6000-6010")
    ran = run("check", str(EXAMPLES / "two-phones.yaml"))
    assert "SIP ports 6000-6010" in ran.out
    monkeypatch.setenv("SIPHERD_SIP_PORTS", "many")
    ran = run("check", str(EXAMPLES / "two-phones.yaml"))
    assert ran.code == 2
    assert ran.err.startswith("SIPHERD_SIP_PORTS: ")


@pytest.mark.parametrize("name", ["check", "up"])
def test_a_file_that_is_not_there(run: Run, tmp_path: Path, name: str) -> None:
    ran = run(name, str(tmp_path / "nowhere.yaml"))
    assert ran.code == 2
    assert "No such file" in ran.err


# up


@pytest.fixture
def herd_file(tmp_path: Path) -> Path:
    """Two phones on ports that nobody else has."""
    file = tmp_path / "herd.yaml"
    file.write_text(
        "herd: lab\nphones:\n"
        '  - {name: alice, number: "1001", port: 0, media: none}\n'
        '  - {name: bob, number: "1002", port: 0, media: none, on_incoming: {answer_after: 0}}\n'
    )
    return file


def read_until(running: subprocess.Popen[str], text: str) -> list[str]:
    """The lines up to the one that has the text."""
    lines = []
    assert running.stdout
    for line in running.stdout:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"no {text!r} in {lines}; {running.stderr and running.stderr.read()}")


def test_up_writes_a_line_for_each_event(run: Run, herd_file: Path) -> None:
    with process("up", herd_file) as up:
        lines = read_until(up, "2 phones ready")
        assert "lab started" in lines[0]
        assert not set("".join(lines)) & {"\r", "\x1b"}
        stopped = run("stop", "--herd", "lab")
        assert stopped.code == 0, stopped.err
        assert stopped.out.startswith("herd lab stopped: 2 phones stopped in ")
        rest, error = up.communicate(timeout=15)
        assert up.returncode == 0, error
        assert "stopping: sipherd stop" in rest


def test_up_for_programs(run: Run, herd_file: Path) -> None:
    with process("up", herd_file, "--json", "--herd", "other") as up:
        read_until(up, '"herd_ready"')
        called = run("call", "alice", "bob", "--duration", "0", "--herd", "other", "--json")
        assert called.code == 0, called.err
        up.send_signal(signal.SIGTERM)
        out, error = up.communicate(timeout=15)
        assert up.returncode == 0, error
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["n"] for event in events] == list(range(events[0]["n"], events[-1]["n"] + 1))
    assert {"placed", "incoming", "answered", "ended", "herd_stopping"} <= {
        event["kind"] for event in events
    }


def test_quiet_up_and_ctrl_c(herd_file: Path, herd_is_up: HerdIsUp) -> None:
    with process("up", herd_file, "-q") as up:
        herd_is_up("lab", 2)
        up.send_signal(signal.SIGINT)
        out, _ = up.communicate(timeout=15)
        assert (up.returncode, out) == (130, "")


def test_a_herd_of_that_name_is_running(herd_file: Path, herd_is_up: HerdIsUp) -> None:
    with process("up", herd_file, "-q"):
        herd_is_up("lab", 2)
        with process("up", herd_file) as second:
            _, error = second.communicate(timeout=15)
        assert second.returncode == 2
        assert '"lab"' in error or "lab" in error


# Around the commands.


def test_a_reader_that_goes_is_no_error(herd: Herd) -> None:
    """`sipherd events --follow | head -1`: no traceback, no noise."""
    with process("events", "--follow", "--herd", herd.name) as following:
        assert following.stdout
        assert following.stdout.readline()
        following.stdout.close()
        herd["alice"].stop()  # something to write about
        assert following.stderr
        assert following.stderr.read() == ""
        assert following.wait(timeout=10) == 1


def test_the_end_of_the_herd_is_the_end_of_following(run: Run, herd: Herd) -> None:
    with process("events", "--follow", "--herd", herd.name) as following:
        read_until(following, "bob         ready")
        assert run("stop", "--herd", herd.name).code == 0
        out, error = following.communicate(timeout=10)
    assert (following.returncode, error) == (0, "")
    assert "stopping: sipherd stop" in out


def test_completion(herd: Herd) -> None:
    words = f"sipherd call --herd {herd.name} a"
    environ = {
        "_SIPHERD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": "4",
    }
    with process(environ=environ) as completing:
        out, error = completing.communicate(timeout=10)
    assert (out.split(), error) == (["plain,alice"], "")


def test_completion_without_a_herd_says_nothing() -> None:
    environ = {
        "_SIPHERD_COMPLETE": "bash_complete",
        "COMP_WORDS": "sipherd show a",
        "COMP_CWORD": "2",
    }
    with process(environ=environ) as completing:
        out, error = completing.communicate(timeout=10)
    assert (out.strip(), error) == ("", "")


def test_a_disk_that_is_full(herd: Herd) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("ps", "--herd", herd.name),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ENVIRON,
            timeout=20,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "sipherd: can't write the output: No space left on device\n"
