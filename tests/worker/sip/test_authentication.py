"""Challenged requests: what goes out again, with what, and when it does not."""

import re

import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, lines, reply, sends

from sipherd.worker.sip.digest import Challenge, Nonce
from sipherd.worker.stack import (
    Answered,
    CallEnded,
    CancelResolved,
    Credentials,
    Progress,
    Send,
    Target,
)

ALICE_KEY = Credentials("alice", "wonderland")
AUTHENTICATE = {401: "WWW-Authenticate", 407: "Proxy-Authenticate"}
AUTHORIZATION = {401: "Authorization", 407: "Proxy-Authorization"}


def hand(**config):
    return Hand(credentials=ALICE_KEY, **config)


def challenge(to, code=407, *, nonce="n1", realm="r", more="", extra=()):
    header = f'{AUTHENTICATE[code]}: Digest realm="{realm}", nonce="{nonce}", qop="auth"{more}'
    return reply(to, code, extra=(header, *extra))


def credentials(message, code=407):
    """Realm, nonce and nc of each field; each response is checked."""
    found = []
    for value in message.headers.fields(AUTHORIZATION[code]):
        fields = dict(re.findall(r'([a-z]+)="?([^",]*)', value))
        nonce = Nonce(Challenge(realm=fields["realm"], nonce=fields["nonce"]), fields["cnonce"])
        for _ in range(int(fields["nc"], 16)):
            expected = nonce.authorize(message.method, message.uri, ALICE_KEY)
        assert fields["response"] in expected
        found.append((fields["realm"], fields["nonce"], int(fields["nc"], 16)))
    return found


@pytest.mark.parametrize("code", [401, 407])
def test_a_challenged_invite_goes_out_again(code):
    """RFC 3261 8.1.3.5, 22.2: same Call-ID, From, To; next CSeq; new branch."""
    alice = hand()
    invite = alice.place()
    outputs = alice.receive(challenge(invite, code))
    assert lines(outputs) == ["ACK", "INVITE"]
    ack, again = sends(outputs)
    assert (ack.via.branch, ack.headers["CSeq"]) == (invite.via.branch, "1 ACK")
    assert credentials(again, code) == [("r", "n1", 1)]
    assert again.via.branch != invite.via.branch
    assert again.headers["CSeq"] == "2 INVITE"
    same = ("Call-ID", "From", "To", "Contact", "Content-Type", "Max-Forwards")
    assert [again.headers[name] for name in same] == [invite.headers[name] for name in same]
    assert (again.uri, again.content) == (invite.uri, invite.content)
    assert again.headers.items()[0][0] == "Via"  # where an ICMP error looks for the branch
    # The challenge comes again: its ACK, and nothing else, does too.
    assert lines(alice.receive(challenge(invite, code))) == ["ACK"]

    (ack,) = sends(alice.receive(reply(again, 200, body=OFFER)))
    # 22.1: the ACK has the credentials of its INVITE.
    name = AUTHORIZATION[code]
    assert ack.headers.fields(name) == again.headers.fields(name)
    assert ack.headers["CSeq"] == "2 ACK"
    (bye,) = sends(alice.take(alice.engine.hang_up("c1", alice.now)))
    assert bye.headers["CSeq"] == "3 BYE"
    alice.receive(reply(bye, 200))
    assert len(alice.reported(Answered)) == len(alice.reported(CallEnded)) == 1
    alice.advance(60)
    assert alice.is_empty()


def test_a_request_within_a_dialog_takes_the_next_number_of_the_dialog():
    alice = hand()
    alice.placed_and_answered()
    (bye,) = sends(alice.take(alice.engine.hang_up("c1", alice.now)))
    (again,) = sends(alice.receive(challenge(bye)))
    assert (bye.headers["CSeq"], again.headers["CSeq"]) == ("2 BYE", "3 BYE")
    assert credentials(again) == [("r", "n1", 1)]
    alice.receive(reply(again, 200))
    (ended,) = alice.reported(CallEnded)
    assert ended.bye_answered is True
    alice.advance(60)
    assert alice.is_empty()


def test_a_callee_answers_the_challenge_to_its_bye_as_well():
    alice = hand()
    alice.up()
    (bye,) = sends(alice.take(alice.engine.hang_up("i1", alice.now)))
    (again,) = sends(alice.receive(challenge(bye, 401)))
    assert credentials(again, 401) == [("r", "n1", 1)]
    alice.receive(reply(again, 200))
    assert len(alice.reported(CallEnded)) == 1


def test_a_nonce_is_used_again_for_what_goes_there_next():
    alice = hand()
    _, invite = sends(alice.receive(challenge(alice.place())))
    alice.receive(reply(invite, 486))
    second = alice.place("c2")
    assert credentials(second) == [("r", "n1", 2)]
    assert second.headers["CSeq"] == "1 INVITE"
    # It is too old by now. That is no refusal, and the new one is remembered.
    _, again = sends(alice.receive(challenge(second, nonce="n2", more=", stale=true")))
    assert credentials(again) == [("r", "n2", 1)]
    (ack,) = sends(alice.receive(reply(again, 200, body=OFFER)))
    assert credentials_in(ack) == credentials_in(again)
    (bye,) = sends(alice.take(alice.engine.hang_up("c2", alice.now)))
    assert credentials(bye) == [("r", "n2", 2)]


def credentials_in(message):
    return message.headers.fields("Proxy-Authorization")


def test_a_remembered_nonce_that_is_refused_without_stale_is_a_challenge_like_any_other():
    """Servers that forget their nonces do not all say stale=true."""
    alice = hand()
    _, invite = sends(alice.receive(challenge(alice.place())))
    alice.receive(reply(invite, 486))
    _, again = sends(alice.receive(challenge(alice.place("c2"), nonce="n2")))
    assert credentials(again) == [("r", "n2", 1)]
    alice.receive(challenge(again, nonce="n3"))
    assert [ended.code for ended in alice.reported(CallEnded)] == [486, 407]


def test_nothing_is_sent_unasked_to_another_address_or_another_domain_there():
    alice = hand()
    _, invite = sends(alice.receive(challenge(alice.place(), 401)))
    alice.receive(reply(invite, 486))
    other_address = alice.engine.read_target("sip:b@192.0.2.3:5062")
    other_domain = Target("sip:b@other.example", BOB)
    for call, target in (("c2", other_address), ("c3", other_domain)):
        (elsewhere,) = sends(alice.engine.call(call, target, MEDIA, alice.now))
        assert credentials(elsewhere, 401) == []


def test_a_wrong_password_ends_the_attempt():
    alice = hand()
    _, again = sends(alice.receive(challenge(alice.place())))
    assert lines(alice.receive(challenge(again, nonce="n2"))) == ["ACK"]
    (ended,) = alice.reported(CallEnded)
    assert (ended.cause, ended.by, ended.code) == ("rejected", "remote", 407)
    # And what was refused is not offered again unasked.
    assert credentials(alice.place("c2")) == []


def test_a_chain_of_hops_each_of_which_challenges():
    alice = hand()
    _, second = sends(alice.receive(challenge(alice.place(), realm="proxy")))
    _, third = sends(alice.receive(challenge(second, 401, realm="pbx", nonce="n2")))
    assert credentials(third, 407) == [("proxy", "n1", 2)]
    assert credentials(third, 401) == [("pbx", "n2", 1)]
    stale = challenge(third, nonce="n3", realm="proxy", more=", stale=true")
    _, fourth = sends(alice.receive(stale))
    assert credentials(fourth, 407) == [("proxy", "n3", 1)]
    assert credentials(fourth, 401) == [("pbx", "n2", 2)]
    assert fourth.headers["CSeq"] == "4 INVITE"


def test_the_collected_challenges_of_a_fork_are_answered_at_once():
    """RFC 3261 16.7: one response has those of all branches, of both kinds."""
    alice = hand()
    extra = (
        'WWW-Authenticate: Digest realm="b1", nonce="n2"',
        'WWW-Authenticate: Digest realm="b2", nonce="n3", qop="auth", algorithm=SHA-512-256',
        'Proxy-Authenticate: Digest realm="r", nonce="n4", qop="auth", algorithm=SHA-256',
    )
    _, again = sends(alice.receive(challenge(alice.place(), extra=extra)))
    (proxy,) = again.headers.fields("Proxy-Authorization")
    assert 'nonce="n4"' in proxy
    assert "algorithm=SHA-256" in proxy
    (far,) = again.headers.fields("Authorization")
    assert 'realm="b1"' in far


def test_stale_for_ever_ends_all_the_same():
    alice = hand()
    message = alice.place()
    sent = 1
    for number in range(20):
        found = sends(alice.receive(challenge(message, nonce=f"n{number}", more=", stale=true")))
        if len(found) == 1:
            break
        message = found[1]
        sent += 1
    assert sent == 6
    (ended,) = alice.reported(CallEnded)
    assert ended.code == 407


@pytest.mark.parametrize(
    "header",
    [
        "X-Nothing: 1",
        'Proxy-Authenticate: Basic realm="r"',
        'Proxy-Authenticate: Digest realm="r", nonce="n", algorithm=X',
        'Proxy-Authenticate: Digest realm="r',
    ],
)
def test_without_a_challenge_that_can_be_answered_it_is_a_rejection(header):
    alice = hand()
    assert lines(alice.receive(reply(alice.place(), 407, extra=(header,)))) == ["ACK"]
    (ended,) = alice.reported(CallEnded)
    assert (ended.cause, ended.code) == ("rejected", 407)


def test_a_phone_without_credentials_is_rejected():
    alice = Hand()
    assert lines(alice.receive(challenge(alice.place()))) == ["ACK"]
    assert alice.reported(CallEnded)[0].code == 407


# Cancelling


def test_the_cancel_of_an_invite_that_was_challenged():
    """RFC 3261 9.1: branch and CSeq of the INVITE that is under way."""
    alice = hand()
    invite = alice.place()
    alice.receive(reply(invite, 100))
    _, again = sends(alice.receive(challenge(invite)))
    # The 100 was to the first INVITE; a CANCEL could overtake the second.
    assert lines(alice.take(alice.engine.cancel("c1", alice.now))) == []
    (cancel,) = sends(alice.receive(reply(again, 180)))
    assert cancel.method == "CANCEL"
    assert cancel.via.branch == again.via.branch
    assert cancel.headers["CSeq"] == "2 CANCEL"
    assert not cancel.headers.fields("Proxy-Authorization")
    assert lines(alice.receive(reply(cancel, 200))) == []
    (ack,) = sends(alice.receive(reply(again, 487)))
    assert (ack.via.branch, ack.headers["CSeq"]) == (again.via.branch, "2 ACK")
    assert [r.outcome for r in alice.reported(CancelResolved)] == ["cancelled"]
    assert [p.code for p in alice.reported(Progress)] == [180]


def test_a_challenge_to_an_invite_that_is_cancelled_is_its_end():
    alice = hand()
    invite = alice.place()
    alice.engine.cancel("c1", alice.now)
    assert lines(alice.receive(challenge(invite))) == ["ACK"]
    (resolved,) = alice.reported(CancelResolved)
    assert (resolved.outcome, resolved.code) == ("already_ended", 407)
    alice.advance(60)
    assert alice.is_empty()


# Time and space


def test_the_repetition_is_repeated_and_times_out_like_any_request():
    alice = hand()
    alice.receive(challenge(alice.place()))
    assert len(alice.times("INVITE")) == 2
    alice.advance(40)
    assert alice.times("INVITE") == [0, 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    (ended,) = alice.reported(CallEnded)
    assert ended.cause == "no_response"
    alice.advance(60)
    assert alice.is_empty()


def test_icmp_for_the_repetition_ends_it():
    alice = hand()
    outputs = alice.receive(challenge(alice.place()))
    again = [output for output in outputs if isinstance(output, Send)][1]
    alice.take(alice.engine.unreachable(again.data, BOB, alice.now))
    assert alice.reported(CallEnded)[0].cause == "unreachable"


def test_what_is_remembered_is_bounded():
    alice = hand()
    requests = alice.engine.requests
    for number in range(100):
        target = alice.engine.read_target(f"sip:b@192.0.2.{number + 1}")
        (invite,) = sends(alice.engine.call(f"c{number}", target, MEDIA, alice.now))
        (_, again) = sends(alice.receive(challenge(invite, realm=f"r{number}"), target.hop))
        alice.receive(reply(again, 486), target.hop)
    assert len(requests._spaces) == 32
    alice.place("d0")
    for number in range(20):
        _, again = sends(
            alice.receive(challenge(alice.place(f"d{number + 1}"), realm=f"r{number}"))
        )
        alice.receive(reply(again, 486))
    assert max(map(len, requests._spaces.values())) == 4


def test_no_password_in_what_is_reported_or_shown():
    alice = hand()
    _, again = sends(alice.receive(challenge(alice.place())))
    alice.receive(challenge(again, nonce="n2"))
    shown = repr(alice.log) + repr(vars(alice.engine)) + repr(alice.engine.ctx.config)
    assert ALICE_KEY.password not in shown
    assert ALICE_KEY.password not in repr(dict(alice.engine.counters))
