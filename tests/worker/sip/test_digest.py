"""Digest: the RFCs' own examples, and challenges as servers write them, or should not."""

import re

import pytest

from sipherd.worker.sip.digest import Nonce, parse_challenges, strongest
from sipherd.worker.stack import Credentials

MUFASA = Credentials("Mufasa", "Circle of Life")
RFC_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def one(header):
    (challenge,) = parse_challenges([header])
    return challenge


def fields(authorization):
    """The fields of a Digest header, with their quotes."""
    scheme, _, rest = authorization.partition(" ")
    assert scheme == "Digest"
    return dict(re.findall(r'([a-z]+)=("[^"]*"|[^ ,"]*)(?:, |$)', rest))


def answer(header, credentials=MUFASA, cnonce=CNONCE, method="GET", uri="/dir/index.html"):
    return fields(Nonce(one(header), cnonce).authorize(method, uri, credentials))


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm, response):
    """3.9.1, quoting and all."""
    assert answer(RFC_7616.format(algorithm)) == {
        "username": '"Mufasa"',
        "realm": '"http-auth@example.org"',
        "nonce": '"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"',
        "uri": '"/dir/index.html"',
        "response": f'"{response}"',
        "algorithm": algorithm,
        "opaque": '"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
        "qop": "auth",
        "nc": "00000001",
        "cnonce": f'"{CNONCE}"',
    }


def test_the_example_of_rfc_2617():
    """3.5: MD5 that the challenge does not name is not named in the answer."""
    header = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    found = answer(header, Credentials("Mufasa", "Circle Of Life"), "0a4f113b")
    assert found["response"] == '"6629fae49393a05397450978507c4ef1"'
    assert "algorithm" not in found


def test_the_example_of_rfc_2069():
    """As its erratum corrects it: no qop, no nc, no cnonce."""
    header = (
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    found = answer(header, Credentials("Mufasa", "CircleOfLife"))
    assert found["response"] == '"1949323746fe6a43ef61f9606e7febea"'
    assert found.keys().isdisjoint({"qop", "nc", "cnonce", "algorithm"})


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        # No RFC has an example. A1 is H(H(user:realm:password):nonce:cnonce).
        ("MD5-sess", "e783283f46242139c486a698fec7211d"),
        (
            "SHA-256-sess",
            "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7",
        ),
    ],
)
def test_session_keys(algorithm, response):
    found = answer(RFC_7616.format(algorithm))
    assert (found["algorithm"], found["response"]) == (algorithm, f'"{response}"')


def test_each_use_of_a_nonce_counts():
    nonce = Nonce(one(RFC_7616.format("MD5")), CNONCE)
    used = [fields(nonce.authorize("REGISTER", "sip:x", MUFASA)) for _ in range(17)]
    assert [found["nc"] for found in used] == [f"{n:08x}" for n in range(1, 18)]
    assert len({found["response"] for found in used}) == 17


# Reading


def test_several_challenges_in_one_header_and_in_several():
    headers = [
        'Basic realm="b", Digest realm="one", nonce="1",qop="auth" ,'
        'algorithm=SHA-256, NTLM, Digest nonce="2", realm="two"',
        "Negotiate YII=",
        'DIGEST  Realm = "three" , Nonce = "3"',
    ]
    found = parse_challenges(headers)
    assert [(c.realm, c.nonce, c.algorithm, c.qop) for c in found] == [
        ("one", "1", "SHA-256", True),
        ("two", "2", "", False),
        ("three", "3", "", False),
    ]


def test_commas_and_escapes_within_quotes_are_no_ends():
    found = one(r'Digest realm="a, Digest \"b\"", nonce="n,=\\", opaque=""')
    assert (found.realm, found.nonce, found.opaque) == (r"a, Digest \"b\"", r"n,=\\", "")


def test_what_was_quoted_goes_back_as_it_came():
    """RFC 7616 1.2: unq() only takes the quotes off."""
    text = Nonce(one(r'Digest realm="a \"b\"", nonce="n"'), "c").authorize("X", "sip:x", MUFASA)
    assert r'realm="a \"b\""' in text


@pytest.mark.parametrize(
    ("text", "stale"),
    [("stale=true", True), ('stale="TRUE"', True), ("stale=false", False), ("stale=x", False)],
)
def test_stale(text, stale):
    assert one(f'Digest realm="r", nonce="n", {text}').stale is stale


def test_values_without_their_quotes_and_with_quotes_too_many_are_read():
    found = one('Digest realm=asterisk, nonce=1a2b, algorithm="md5", qop=auth')
    assert (found.realm, found.nonce, found.algorithm, found.qop) == (
        "asterisk",
        "1a2b",
        "md5",
        True,
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Digest",
        "Digest ",
        'Basic realm="r"',
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256',
        'Digest realm="r", nonce="n", algorithm=AKAv1-MD5',
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n", qop="token, other"',
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="not closed',
        'Digest realm="r", nonce="a\rVia: forged"',
        'Digest realm="r\x00", nonce="n"',
        f'Digest realm="r", nonce="{"n" * 5000}"',
        'Digest realm="r" nonce="n"',
        '"Digest" realm="r", nonce="n"',
        ",,,,=,=,",
        '"',
        "\\" * 100,
    ],
)
def test_what_cannot_be_answered_is_none(header):
    assert parse_challenges([header]) == []


def test_a_hostile_header_takes_no_time_and_no_memory():
    for header in (
        'Digest realm="r", nonce="n", ' * 4000,
        "Digest " * 9000,
        '"' * 60000,
        '="' * 30000,
        "a " * 30000,
        "Digest a=" + '"\\' * 30000,
    ):
        assert len(parse_challenges([header] * 3)) <= 16


def test_the_strongest_of_each_realm():
    headers = [
        'Digest realm="a", nonce="1", algorithm=MD5, qop="auth"',
        'Digest realm="a", nonce="2", algorithm=SHA-256, qop="auth"',
        'Digest realm="a", nonce="3", algorithm=SHA-256, qop="auth"',
        'Digest realm="b", nonce="4"',
        'Digest realm="a", nonce="5", algorithm=MD5-sess, qop="auth"',
    ]
    best = strongest(parse_challenges(headers))
    assert {realm: challenge.nonce for realm, challenge in best.items()} == {"a": "2", "b": "4"}


def test_names_beyond_ascii_and_bytes_that_are_no_text():
    challenge = one('Digest realm="b\udcffr", nonce="n"')
    text = Nonce(challenge, "c").authorize("X", "sip:x", Credentials("jörg", "gehëim"))
    assert 'realm="b\udcffr"' in text
    assert 'username="jörg"' in text


def test_no_repr_shows_the_password():
    nonce = Nonce(one(RFC_7616.format("MD5")), CNONCE)
    nonce.authorize("X", "sip:x", MUFASA)
    for thing in (MUFASA, nonce, one(RFC_7616.format("MD5"))):
        assert MUFASA.password not in repr(thing)
