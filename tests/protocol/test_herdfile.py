"""The herd file: what it can say, and what is said about one that is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipherd.protocol.errors import HerdFileError
from sipherd.protocol.hang_spec import HangSpec
from sipherd.protocol.herdfile import load_herd_file, parse_herd
from sipherd.protocol.limits import Limits
from sipherd.protocol.spec import HerdPorts, HerdSpec, OnIncoming, PhoneSpec, PortRange

FULL = """\
herd: lab
ports: {sip: 6000-6998, rtp: 30000-31999}
port_retries: 3
strict_ports: true
phones:
  - {name: alice, number: "1001"}
  - name: bob
    number: 1002
    display_name: Bob from ${CITY:-Bonn}
    address: 0.0.0.0
    advertise: pbx.example.org:5070
    port: 5070
    on_incoming: {answer_after: 0.5s, hang_up_after: 2m}
    transport: tcp
    media: none
    max_calls: 7
    ring_timeout: 200ms
    queue: 0
    match_user: true
    trace: yes
    after_crash: leave
  - name: agent-{n:03d}
    count: 3
    number: "{2000 + n}"
    display_name: "{name} is {number} {{n}}"
    on_incoming: {reject: 603}
"""


def parse(text: str, **environ: str) -> HerdSpec:
    return parse_herd(textwrap.dedent(text), "herd.yaml", environ)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(HerdFileError) as caught:
        parse(text, **environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def phone(text: str, **environ: str) -> PhoneSpec:
    """The only phone of a herd, given as a flow mapping."""
    (only,) = parse(f"phones: [{text}]", **environ).phones
    return only


def problem(text: str, **environ: str) -> str:
    """The only problem of a herd with one phone, without the file."""
    (only,) = problems(f"phones: [{text}]", **environ)
    assert only.startswith("herd.yaml:1: $.phones[0]")
    return only.removeprefix("herd.yaml:1: $.phones[0]")


def test_everything_a_file_can_say() -> None:
    herd = parse(FULL)
    assert (herd.herd, herd.port_retries, herd.strict_ports) == ("lab", 3, True)
    assert herd.ports == HerdPorts(sip=PortRange(6000, 6998), rtp=PortRange(30000, 31999))
    alice, bob, *agents = herd.phones
    assert alice == PhoneSpec(name="alice", number="1001")
    assert bob == PhoneSpec(
        name="bob",
        number="1002",
        display_name="Bob from Bonn",
        address="0.0.0.0",
        advertise="pbx.example.org:5070",
        port=5070,
        on_incoming=OnIncoming(answer_after=0.5, hang_up_after=120.0),
        transport="tcp",
        media="none",
        max_calls=7,
        ring_timeout=0.2,
        queue=0,
        match_user=True,
        trace=True,
        after_crash="leave",
    )
    assert [(agent.name, agent.number) for agent in agents] == [
        ("agent-001", "2001"),
        ("agent-002", "2002"),
        ("agent-003", "2003"),
    ]
    assert agents[0].display_name == "agent-001 is 2001 {n}"


def test_what_is_left_out_has_defaults() -> None:
    herd = parse("phones: [{name: alice}]")
    assert herd == HerdSpec(phones=(PhoneSpec(name="alice", number="alice"),))
    assert (herd.herd, str(herd.ports.sip), str(herd.ports.rtp)) == (
        "default",
        "5060-7058",
        "20000-29999",
    )
    assert parse("phones: []").phones == ()


@pytest.mark.parametrize("written", ["0123", "+491234", "1001", "'0123'", "0x10", "1_0"])
def test_a_number_is_what_is_written(written: str) -> None:
    assert phone(f"{{name: a, number: {written}}}").number == written.strip("'")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5", 5), ("0.25", 0.25), ("0.5s", 0.5), ("200ms", 0.2), ("2m", 120), ("1h", 3600)],
)
def test_durations(written: str, seconds: float) -> None:
    assert phone(f"{{name: a, ring_timeout: {written}}}").ring_timeout == pytest.approx(seconds)


def test_reject_without_a_code_is_busy() -> None:
    assert phone("{name: a, on_incoming: {reject: }}").on_incoming == OnIncoming(reject=486)


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{n}", ["1", "2"]),
        ("{2000 + n}", ["2001", "2002"]),
        ("{n:03d}", ["001", "002"]),
        ("{(n - 1) * 10 // 3}", ["0", "3"]),
        ("{n % 2}", ["1", "0"]),
        ("{-n + 5}", ["4", "3"]),
        ("{number}/{name}", ["n1/p1", "n2/p2"]),
        ("{{n}} }}", ["{n} }", "{n} }"]),
        ("$${n}", ["$1", "$2"]),
    ],
)
def test_templates(template: str, values: list[str]) -> None:
    text = f'phones: [{{name: "p{{n}}", count: 2, number: "n{{n}}", display_name: "{template}"}}]'
    assert [phone.display_name for phone in parse(text).phones] == values


def test_a_number_left_out_can_be_referred_to() -> None:
    assert phone("{name: a, display_name: '{number}'}").display_name == "a"


def test_a_template_can_fill_in_a_number() -> None:
    text = "phones: [{name: 'p{n}', count: 2, port: '{5060 + 2 * n}', trace: '${T}'}]"
    herd = parse(text, T="true")
    assert [(phone.port, phone.trace) for phone in herd.phones] == [(5062, True), (5064, True)]


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "{}",
        "{n",
        "{m}",
        "{n.real}",
        "{n ** 9}",
        "{n / 2}",
        "{9**9**9}",
        "{n n}",
        "{(n)}(",
        "{1 // (n - 1)}",
        "{1 // (n - 2)}",
        "{n:>9999d}",
        "{n:s}",
        "{n!r}",
        "{__import__('os')}",
        "{number:03d}",
        "${1}",
        "${",
    ],
)
def test_templates_that_are_wrong(template: str) -> None:
    text = f'phones: [{{name: "p{{n}}", count: 2, number: "x{{n}}{template}"}}]'
    if template == "{(n)}(":
        assert "expected 1 to 64 of the characters" in problems(text)[0]
    else:
        assert len(problems(text)) == 1


def test_variables() -> None:
    assert phone("{name: '${A}${B:-b}'}", A="a").name == "ab"
    assert phone("{name: '${A}${B:-b}'}", A="a", B="c").name == "ac"
    assert phone("{name: '${A:-x}'}", A="").name == "x"
    assert (
        phone("{name: a, display_name: '$$ ${A} $5'}", A="$ {n} $").display_name == "$ $ {n} $ $5"
    )


def test_the_value_of_a_variable_is_not_shown() -> None:
    assert problem("{name: '${SECRET}'}", SECRET="p@ss") == (
        ".name: '${SECRET}': expected 1 to 64 of the characters A-Z a-z 0-9 . _ - "
        "that begin with a letter or digit"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{name: a, prt: 1}", ": unknown key 'prt', did you mean port?"),
        ("{name: a, [b]: 1}", ": a key that is no text, expected one of name, number"),
        ("{number: 1}", ": name is missing, expected it here"),
        ("3", ": expected a mapping with name, number"),
        ("{name: a b}", ".name: 'a b': expected 1 to 64"),
        ("{name: no}", ".name: expected text, got true/false ('no'): put it in quotes"),
        ("{name: }", ".name: expected text, got nothing"),
        ("{name: 1.5}", ".name: expected text, got a number"),
        ("{name: [a]}", ".name: expected text, got a list"),
        ("{name: a, number: {n}}", ".number: expected text, got a mapping; a template must be"),
        ("{name: a, number: '1#'}", ".number: '1#': expected 1 to 64"),
        ('{name: a, display_name: "b\\n"}', ".display_name: 'b\\n': expected text without"),
        ("{name: a, port: 65536}", ".port: '65536': expected a port from 1 to 65535"),
        ("{name: a, port: -1}", ".port: '-1': expected a port"),
        ("{name: a, port: 0506}", ".port: '0506': expected a whole number, decimal"),
        ("{name: a, port: '5060'}", ".port: '5060': expected a whole number, decimal"),
        ("{name: a, port: 5.5}", ".port: '5.5': expected a whole number"),
        (f"{{name: a, port: {'9' * 5000}}}", ".port: '99999"),
        ("{name: a, trace: 1}", ".trace: '1': expected true or false"),
        ("{name: a, trace: 'yes'}", ".trace: 'yes': expected true or false, without quotes"),
        ("{name: a, transport: tls}", ".transport: 'tls': expected udp or tcp"),
        (
            "{name: a, after_crash: hide}",
            ".after_crash: 'hide': expected clean_up or leave",
        ),
        ("{name: a, media: video}", ".media: 'video': expected audio or none"),
        ("{name: a, max_calls: 0}", ".max_calls: '0': expected 1 or more"),
        ("{name: a, queue: -1}", ".queue: '-1': expected 0 or more"),
        ("{name: a, ring_timeout: 0}", ".ring_timeout: '0': expected more than 0 seconds"),
        ("{name: a, ring_timeout: 5 s}", ".ring_timeout: '5 s': expected a duration"),
        ("{name: a, ring_timeout: -5}", ".ring_timeout: '-5': expected a duration"),
        ("{name: a, ring_timeout: .inf}", ".ring_timeout: '.inf': expected a duration"),
        ("{name: a, address: '::g'}", ".address: '::g': not an IPv6 address"),
        ("{name: a, address: '[::1]'}", ".address: '[::1]': expected an address without brackets"),
        ("{name: a, address: 'fe80::1'}", ".address: 'fe80::1': a link-local address is of no use"),
        ("{name: a, address: 'fe80::1%eth0'}", ".address: 'fe80::1%eth0': a link-local address"),
        (
            "{name: a, address: '::ffff:1.2.3.4'}",
            ".address: '::ffff:1.2.3.4': an IPv4 address in disguise, write 1.2.3.4",
        ),
        ("{name: a, address: '::'}", ": address :: can't be shown to others"),
        ("{name: a, advertise: '::1'}", ".advertise: '::1': expected an IPv6 address in brackets"),
        ("{name: a, advertise: '[::1]:x'}", ".advertise: '[::1]:x': expected a port from 1"),
        ("{name: a, advertise: '[::]:5060'}", ".advertise: '[::]:5060': expected an address that"),
        ("{name: a, address: 1.2.3}", ".address: '1.2.3': not an IPv4 address"),
        ("{name: a, address: a_-.b}", ".address: 'a_-.b': expected an IP address or a host"),
        ("{name: a, address: ''}", ".address: '': expected an IP address"),
        ("{name: a, address: 0.0.0.0}", ": address 0.0.0.0 can't be shown to others"),
        ("{name: a, advertise: 'b:0'}", ".advertise: 'b:0': expected a port from 1 to 65535"),
        ("{name: a, advertise: 0.0.0.0}", ".advertise: '0.0.0.0': expected an address that"),
        ("{name: a, on_incoming: ring}", ".on_incoming: expected a mapping with answer_after"),
        ("{name: a, on_incoming: {}}", ".on_incoming: expected exactly one of answer_after"),
        (
            "{name: a, on_incoming: {reject: 486, ring: true}}",
            ".on_incoming: expected exactly one of answer_after",
        ),
        ("{name: a, on_incoming: {reject: 200}}", ".on_incoming.reject: '200': expected a SIP"),
        (
            "{name: a, on_incoming: {ring: true, hang_up_after: 1}}",
            ".on_incoming: hang_up_after counts from the answer: it needs answer_after",
        ),
        ("{name: a, count: 2}", ".name: the same for every phone of an entry with count"),
        (
            "{name: 'a{n}', number: 1, count: 2}",
            ".number: the same for every phone of an entry with count",
        ),
        ("{name: 'a{n}', count: 0}", ".count: 0: expected 1 to 32767"),
        ("{name: 'a{n}', count: many}", ".count: 'many': expected a whole number"),
        ("{name: 'a{n}'}", ".name: 'a{n}': {n}: n counts the phones of an entry with count"),
        ("{name: '${NOPE}'}", ".name: '${NOPE}': environment variable NOPE is not set"),
        ("{name: !!python/name:os.system x}", ".name: expected text, got the tag"),
        ("{name: a, registrar: {}}", ": unknown key 'registrar', did you mean register"),
        ("{name: a, register: {}}", ".register: server is missing, expected it here"),
        ("{name: a, register: {server: 'a b'}}", ".register.server: 'a b': expected an IP"),
        (
            "{name: a, register: {server: a, expires: 1s}}",
            ".register.expires: '1s': expected whole",
        ),
        (
            "{name: a, register: {server: a, username: 'a b'}}",
            ".register.username: 'a b': expected 1 to",
        ),
        (
            "{name: a, register: {server: a, password: 0123}}",
            ".register.password: expected text, got a n",
        ),
        (
            '{name: a, register: {server: a, password: "s3cret\\n"}}',
            ".register.password: expected at most",
        ),
        ("{name: a, proxy: 'b:0'}", ".proxy: 'b:0': expected a port"),
        ("{name: a, codecs: PCMA}", ".codecs: expected a list of codecs"),
        ("{name: a, codecs: [PCMA, G729]}", ".codecs: 'PCMA, G729': expected one or more of PCMU"),
        ("{name: a, dtmf: inband}", ".dtmf: 'inband': expected rfc4733 or info"),
        ("{name: a, session_expires: 30s}", ".session_expires: '30s': expected whole seconds"),
    ],
)
def test_problems_of_a_phone(text: str, expected: str) -> None:
    assert problem(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "herd.yaml: empty, expected a mapping with phones"),
        ("# nothing", "herd.yaml: empty"),
        ("- a", "herd.yaml:1: $: expected a mapping with herd, ports"),
        ("herd: lab", "herd.yaml:1: $: phones is missing"),
        ("phones: 3", "herd.yaml:1: $.phones: expected a list of phones, got a number"),
        ("herd: a/b\nphones: []", "herd.yaml:1: $.herd: 'a/b': expected 1 to 64"),
        ("phones: []\nports: {sip: 5060}", "herd.yaml:2: $.ports.sip: '5060': expected FIRST-LAST"),
        ("phones: []\nports: {sip: 2-1}", "herd.yaml:2: $.ports.sip: '2-1': upside down"),
        ("phones: []\nports: {sip: 0-1}", "herd.yaml:2: $.ports.sip: '0-1': expected ports from 1"),
        (
            "phones: []\nports: {sip: 1-65536}",
            "herd.yaml:2: $.ports.sip: '1-65536': expected ports",
        ),
        (
            "phones: []\nports: {rtp: 1-4}",
            "herd.yaml:2: $.ports.rtp: '1-4': expected an even first",
        ),
        ("phones: []\nports: {rtp: 2-2}", "herd.yaml:2: $.ports.rtp: '2-2': expected at least two"),
        ("phones: []\nport_retries: -1", "herd.yaml:2: $.port_retries: '-1': expected 0 or more"),
        ("phones: []\nphones: []", "herd.yaml:2: $.phones: given twice, first in line 1"),
        ("phones: [", "herd.yaml:1:10: YAML: "),
        ("a: b: c", "herd.yaml:1:5: YAML: mapping values are not allowed here"),
        ("phones:\n  - {name: ${A}}", "herd.yaml:2:13: YAML: "),
        ("phones: [*a]", "herd.yaml:1:10: YAML: found undefined alias"),
        ("a: b\n---\nc: d", "herd.yaml:2:1: YAML: "),
        ("a: b\nc: \x01", "herd.yaml:2: YAML: character '\\x01' not allowed"),
        ("a: " + "[" * 20000, "herd.yaml: YAML: nested too deeply"),
        ('a: "\\UFFFFFFFF"', "herd.yaml: YAML: "),
        ("&a [*a]", "herd.yaml:1: $: expected a mapping"),
    ],
)
def test_problems_of_the_file(text: str, expected: str) -> None:
    (only,) = problems(text)
    assert only.startswith(expected)
    assert "\n" not in only


def test_all_problems_are_found_in_the_order_of_the_lines() -> None:
    found = problems(
        """\
        port: 5060
        phones:
          - {name: alice, number: 1001, port: 77777}
          - name: bob
            number: 1001
            prot: 3
          - alice
          - {name: "agent{n}", count: 500, max_calls: none}
          - {name: alice}
        """
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["herd.yaml:1", "$"],
        ["herd.yaml:3", "$.phones[0].port"],
        ["herd.yaml:5", "$.phones[1].number"],
        ["herd.yaml:6", "$.phones[1]"],
        ["herd.yaml:7", "$.phones[2]"],
        ["herd.yaml:8", "$.phones[3].max_calls"],
        ["herd.yaml:9", "$.phones[4].name"],
    ]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("name: a", '.name: name "a" of phone "a" is already the name of phone "a"'),
        (
            "name: b, number: 1",
            '.number: number "1" of phone "b" is already the number of phone "a"',
        ),
        ("name: b, number: a", '.number: number "a" of phone "b" is already the name of phone "a"'),
        ("name: 1", '.name: name "1" of phone "1" is already the number of phone "a"'),
        (
            "name: b, port: 5060",
            '.port: port 5060 of phone "b" is already the port of phone "a" on 127.0.0.1',
        ),
        (
            "name: b, port: 5060, address: 0.0.0.0, advertise: c",
            '.port: port 5060 of phone "b" is already the port of phone "a" on 127.0.0.1',
        ),
    ],
)
def test_two_phones_with_the_same_claim(second: str, expected: str) -> None:
    (only,) = problems(f"phones: [{{name: a, number: 1, port: 5060}}, {{{second}}}]")
    assert only == f"herd.yaml:1: $.phones[1]{expected}, expected another one"


def test_claims_that_are_none() -> None:
    parse("phones: [{name: a, number: a}, {name: b, port: 0}, {name: c, port: 0}]")
    parse("phones: [{name: a, port: 5060}, {name: b, port: 5060, address: 127.0.0.2}]")


def test_an_entry_with_count_has_one_conflict() -> None:
    (only,) = problems("phones: [{name: 'a{n}', number: 'x{n // 3}', count: 30}]")
    assert only.startswith("herd.yaml:1: $.phones[0].number: the same for every phone")
    (only,) = problems("phones: [{name: 'a{n}', port: 5060, count: 30}]")
    assert 'port 5060 of phone "a2" is already the port of phone "a1"' in only


def test_the_environment_goes_before_the_file() -> None:
    herd = parse(FULL, SIPHERD_SIP_PORTS="7000-7100", SIPHERD_PORT_RETRIES="0")
    assert herd.ports == HerdPorts(sip=PortRange(7000, 7100), rtp=PortRange(30000, 31999))
    assert herd.port_retries == 0
    assert parse(FULL, SIPHERD_SIP_PORTS="").ports.sip == PortRange(6000, 6998)


def test_problems_of_the_environment_name_the_variable() -> None:
    assert problems(FULL, SIPHERD_SIP_PORTS="5060", SIPHERD_PORT_RETRIES="many") == [
        "SIPHERD_SIP_PORTS: '5060': expected FIRST-LAST, such as 5060-7058",
        "SIPHERD_PORT_RETRIES: 'many': expected a whole number, 0 or more",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def only_problem(path: Path) -> str:
        with pytest.raises(HerdFileError) as caught:
            load_herd_file(path, {})
        (only,) = caught.value.problems
        return only

    missing = tmp_path / "missing.yaml"
    assert only_problem(missing) == f"{missing}: No such file or directory, expected a herd file"
    assert "Is a directory" in only_problem(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"phones: \xff")
    assert only_problem(binary) == f"{binary}: not UTF-8 at byte 8, expected text"
    assert "not a path" in only_problem(tmp_path / "a\0b")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "herd.yaml"
    file.write_bytes(b"\xef\xbb\xbfphones: [{name: a}]")
    assert load_herd_file(file, {}).phones[0].name == "a"


def spec_or_problems(text: str) -> None:
    """Nothing but a spec or problems of one line each, whatever the text."""
    found: list[str] = []
    try:
        parse_herd(text, "herd.yaml", {"A": "${B} {n}"})
    except HerdFileError as error:
        found = error.problems or ["an error without a problem\n"]
    assert all(problem.isprintable() for problem in found)


@given(st.text())
@example("%YAML " + "1" * 5000 + ".1\n---\n")
def test_any_text(text: str) -> None:
    spec_or_problems(text)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(FULL)),
            st.integers(0, 12),
            st.one_of(
                st.sampled_from(
                    ["{", "}", "[", "]", ": ", "- ", "\n", "&a ", "*a", "!!int ", "${A}"]
                ),
                st.sampled_from(
                    ["{n}", "{n+1}", "0", "-1", "9" * 20, "null", "no", "'", '"', "<<: "]
                ),
                st.text(max_size=5),
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
@example([(528, 0, "\ud7fc")])
def test_mutations_of_a_valid_file(edits: list[tuple[int, int, str]]) -> None:
    text = FULL
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    spec_or_problems(text)


# -- hang and limits -------------------------------------------------------------------------------


def test_hang_and_limits() -> None:
    found = phone(
        "{name: a, hang: {late: 500ms, suspect: 1s, hung: 0}, start_timeout: 1m, "
        "limits: {memory: 500MB, descriptors: 256, cpus: [0, 1]}}"
    )
    assert found.hang == HangSpec(late=0.5, suspect=1.0, hung=0.0)
    assert found.start_timeout == 60.0
    assert found.limits == Limits(memory=500_000_000, descriptors=256, cpus=(0, 1))
    assert phone("{name: a}").hang == HangSpec(late=3, suspect=10, hung=30)
    assert phone("{name: a}").limits == Limits()


@pytest.mark.parametrize(
    ("size", "expected"),
    [("32MB", 32_000_000), ("1.5GB", 1_500_000_000), ("40000kB", 40_000_000)],
)
def test_sizes(size: str, expected: int) -> None:
    assert phone(f"{{name: a, limits: {{memory: {size}}}}}").limits.memory == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hang: {late: 3s, suspect: 3s}", "$.phones[0].hang: suspect 3: expected more than late, "),
        ("hang: {hung: 5s}", "$.phones[0].hang: hung 5: expected more than suspect, 10 s, or 0"),
        ("hang: {late: 1ms}", "$.phones[0].hang.late: '1ms': expected 0.2s to 24h"),
        ("hang: {hung: 1ms}", "expected 0.2s to 24h, or 0 to observe only"),
        ("hang: 3s", "$.phones[0].hang: expected a mapping with late, suspect, hung"),
        ("start_timeout: 0", "$.phones[0].start_timeout: '0': expected 0.1s to 1h"),
        ("limits: {memory: 500}", "'500': expected 32MB to 1000GB"),
        ("limits: {memory: 1MB}", "'1MB': expected 32MB to 1000GB"),
        ("limits: {descriptors: 10}", "'10': expected 64 to 1000000"),
        ("limits: {cpus: 1}", "$.phones[0].limits.cpus: expected a list such as [0, 1]"),
        ("limits: {cpus: []}", "[]: expected one or more numbers of processors"),
        ("limits: {cpus: [0, 0]}", "[0, 0]: expected one or more numbers of processors"),
        ("limits: {cpus: [x]}", "'x': expected a whole number"),
        ("limits: {disk: 1GB}", "unknown key 'disk'"),
    ],
)
def test_wrong_hang_and_limits(text: str, problem: str) -> None:
    (found,) = problems(f"phones:\n  - {{name: a, {text}}}")
    assert found.startswith("herd.yaml:")
    assert problem in found


def test_a_load_profile_in_the_file_is_for_whoever_runs_a_load() -> None:
    assert parse_herd("phones: []\nload: {whatever: 1}", "herd.yaml", {}) == HerdSpec()
