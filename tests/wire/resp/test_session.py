"""The RESP session: what a request means. That the words are Redis' is for the live tests."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.values.names import SHARD_PREFIX, Kind, Space
from fanout.values.requests import (
    Ask,
    Close,
    Encoding,
    Exec,
    Publish,
    Question,
    Reply,
    Reset,
    Subscribe,
    Unsubscribe,
)
from fanout.wire.limits import Patterns
from fanout.wire.resp.client_state import UNANSWERED
from fanout.wire.resp.command_table import COMMANDS, CONTAINERS, TOP
from fanout.wire.resp.session import Session
from tests.support.wire.limits import default_limits
from tests.support.wire.sidecar import LoneSidecar, said


def tell(session: Session, *lines: bytes) -> list[bytes]:
    """Return the replies to some requests."""
    return [said(session.handle(line.split())) for line in lines]


def session(**limits: Any) -> Session:
    """Return a session with limits."""
    return Session(1, LoneSidecar(), default_limits(**limits))


def test_every_command_of_the_table_is_served() -> None:
    """The table and the handlers name the same commands."""
    for name, command in COMMANDS.items():
        if name in CONTAINERS and name != b"command":
            continue  # served through its subcommands only
        words = [*name.split(b"|"), *[b"x"] * abs(command.arity)][: abs(command.arity)]
        action = session().handle(words)
        assert not isinstance(action, Reply) or not said(action).startswith(
            (b"-ERR unknown command", b"-ERR wrong number", b"-ERR unknown subcommand")
        )
    assert b"client" in TOP
    assert b"client|id" not in TOP


def test_shard_channels_are_carried_below_a_reserved_prefix() -> None:
    """The name on the nodes is not the client's, and the counts are apart."""
    one = session()
    tell(one, b"SUBSCRIBE c")
    action = one.handle([b"SSUBSCRIBE", b"c", b"d"])
    assert isinstance(action, Subscribe)
    assert action.names == (SHARD_PREFIX + b"c", SHARD_PREFIX + b"d")
    assert action.kind is Kind.CHANNEL
    assert action.reply.endswith(b"$1\r\nd\r\n:2\r\n")
    action = one.handle([b"SUNSUBSCRIBE"])
    assert isinstance(action, Unsubscribe)
    assert action.names == (SHARD_PREFIX + b"c", SHARD_PREFIX + b"d")
    assert session().handle([b"SPUBLISH", b"c", b"x"]) == Publish(SHARD_PREFIX + b"c", b"x")


@pytest.mark.parametrize(
    ("line", "question"),
    [
        (b"PUBSUB NUMSUB a b", Question(Space.CHANNELS, (b"a", b"b"))),
        (b"PUBSUB SHARDNUMSUB", Question(Space.SHARDS, ())),
        (b"PUBSUB CHANNELS", Question(Space.CHANNELS)),
        (b"PUBSUB shardchannels a*", Question(Space.SHARDS, glob=b"a*")),
        (b"PUBSUB NUMPAT", Question(Space.PATTERNS)),
    ],
)
def test_pubsub_asks_the_fleet(line: bytes, question: Question) -> None:
    """What only all sidecars together know is asked of them."""
    action = session().handle(line.split())

    assert isinstance(action, Ask)
    assert action.question == question


def test_a_transaction_is_one_action() -> None:
    """What was queued runs at EXEC; an error before makes that impossible."""
    one = session()
    assert (
        tell(one, b"MULTI", b"PUBLISH c x", b"SUBSCRIBE c") == [b"+OK\r\n"] + [b"+QUEUED\r\n"] * 2
    )
    assert not one.subscribed
    action = one.handle([b"EXEC"])
    assert isinstance(action, Exec)
    assert action.header == b"*2\r\n"
    assert [type(each) for each in action.actions] == [Publish, Subscribe]
    assert one.subscribed
    assert tell(one, b"EXEC")[0].startswith(b"-EXECABORT")  # it is a subscriber now


def test_a_transaction_is_bounded() -> None:
    """Past the limit nothing is kept, and EXEC says so."""
    one = session(transaction_bytes_max=1000)
    tell(one, b"MULTI", b"PUBLISH c " + b"x" * 700)
    refused, more, end = tell(one, b"PUBLISH c " + b"x" * 700, b"PING", b"EXEC")
    assert b"transaction-bytes-max" in refused
    assert b"transaction-bytes-max" in more
    assert end.startswith(b"-EXECABORT")
    assert one.state.queue_bytes == 0
    assert tell(one, b"MULTI", b"PING", b"EXEC")[2] == b"*1\r\n+PONG\r\n"


def test_replies_turned_off() -> None:
    """Publishes happen, confirmations come, questions are not even asked."""
    one = session()
    assert tell(one, b"CLIENT REPLY OFF", b"PING", b"nope", b"TIME") == [b""] * 4
    assert one.handle([b"PUBLISH", b"c", b"x"]) == Publish(b"c", b"x", UNANSWERED)
    assert one.handle([b"PUBSUB", b"NUMPAT"]) == Reply(b"")
    assert tell(one, b"SUBSCRIBE c", b"RESET", b"PING")[1:] == [b"+RESET\r\n", b"+PONG\r\n"]
    assert one.handle([b"PUBLISH", b"c", b"x"]) == Publish(b"c", b"x")


def test_replies_turned_off_within_a_transaction() -> None:
    """The header of EXEC has gone out by then, as with Redis."""
    one = session()
    tell(one, b"MULTI", b"PING", b"CLIENT REPLY OFF", b"PING", b"CLIENT REPLY ON", b"PUBLISH c x")

    assert tell(one, b"EXEC") == [b"*5\r\n+PONG\r\n+OK\r\n:0\r\n"]


def test_one_reply_skipped() -> None:
    """SKIP holds for the next request only, whatever that is."""
    one = session()
    assert tell(one, b"CLIENT REPLY SKIP", b"HELLO 3", b"PING") == [b"", b"", b"+PONG\r\n"]
    tell(one, b"CLIENT REPLY SKIP")
    assert one.handle([b"PUBLISH", b"c", b"x"]) == Publish(b"c", b"x", UNANSWERED)
    assert one.handle([b"PUBLISH", b"c", b"x"]) == Publish(b"c", b"x")


@given(
    st.lists(
        st.sampled_from(
            [
                *(b"SUBSCRIBE c", b"UNSUBSCRIBE", b"HELLO 3", b"HELLO 2", b"MULTI", b"DISCARD"),
                *(b"CLIENT REPLY OFF", b"CLIENT REPLY ON", b"CLIENT REPLY SKIP", b"RESET", b"EXEC"),
            ]
        )
    )
)
def test_the_short_way_of_a_publish_means_the_same(lines: list[bytes]) -> None:
    """In whatever state, PUBLISH in capitals, which is handled sooner, does what publish does."""
    soon, late = session(), session()
    for line in lines:
        soon.handle(line.split())
        late.handle(line.split())

    assert soon.handle([b"PUBLISH", b"c", b"x"]) == late.handle([b"publish", b"c", b"x"])
    assert soon.state.last_command == late.state.last_command


def test_client_kill_ends_others_and_itself() -> None:
    """By number or address; a client that kills itself gets the number of killed clients."""
    sidecar = LoneSidecar()
    one, two, three = (sidecar.join(number) for number in (1, 2, 3))
    tell(two, b"SUBSCRIBE c")
    assert tell(one, b"CLIENT KILL 127.0.0.1:2", b"CLIENT KILL ID 3") == [b"+OK\r\n", b":1\r\n"]
    assert tell(one, b"CLIENT KILL TYPE pubsub", b"CLIENT KILL LADDR 127.0.0.1:6380") == [
        b":1\r\n",
        b":2\r\n",
    ]
    assert tell(one, b"CLIENT KILL ID 2 ADDR 127.0.0.1:3") == [b":0\r\n"]
    assert sidecar.disconnected == [2, 3, 2, 2, 3]
    action = three.handle([b"CLIENT", b"KILL", b"USER", b"default", b"SKIPME", b"no"])
    assert isinstance(action, Close)
    assert said(action) == b":3\r\n"
    assert sidecar.disconnected[5:] == [1, 2]


def test_client_list_shows_every_client() -> None:
    """In Redis' form, with what each has subscribed to."""
    sidecar = LoneSidecar()
    one, two = sidecar.join(1), sidecar.join(2)
    tell(two, b"HELLO 3 SETNAME me", b"SUBSCRIBE a b", b"PSUBSCRIBE p", b"SSUBSCRIBE s", b"MULTI")
    (listed,) = tell(one, b"CLIENT LIST")
    lines = listed.split(b"\r\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == [b"id=1", b"id=2"]
    assert b" name=me age=7 idle=0 flags=Px db=0 sub=2 psub=1 ssub=1 multi=0 " in lines[1]
    assert b" cmd=multi user=default redir=-1 resp=3" in lines[1]
    assert tell(one, b"CLIENT LIST ID 2 7")[0].count(b"id=") == 1
    assert b"id=2 " in tell(one, b"CLIENT LIST TYPE pubsub")[0]


def test_info_tells_what_is_asked_for() -> None:
    """Sections by name, in whatever case, as text for people in protocol 3."""
    one = session()
    assert tell(one, b"INFO fanout") == [b"$26\r\n# Fanout\r\nnodes_active:3\r\n\r\n"]
    (both,) = tell(one, b"INFO CLIENTS cluster")
    assert both.count(b"# ") == 2
    assert b"connected_clients:0\r\n" in both
    assert tell(one, b"INFO")[0] == tell(one, b"INFO everything")[0]
    tell(one, b"HELLO 3")
    assert tell(one, b"INFO cluster") == [b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"]


def test_config_names_a_setting_as_it_was_asked_for() -> None:
    """Once each, whatever the pattern; unknown ones are left out."""
    one = session()
    assert tell(one, b"CONFIG GET SAVE save nope") == [b"*2\r\n$4\r\nSAVE\r\n$0\r\n\r\n"]
    assert tell(one, b"CONFIG GET maxmem*")[0].startswith(b"*4\r\n")


def test_time_is_told_in_two_parts() -> None:
    """Seconds and the microseconds in them."""
    assert tell(session(), b"TIME") == [b"*2\r\n$10\r\n1700000000\r\n$3\r\n123\r\n"]


def test_reset_forgets_everything() -> None:
    """Subscriptions, protocol, name, transaction, replies turned off."""
    one = session()
    tell(one, b"HELLO 3 SETNAME me", b"SUBSCRIBE c", b"CLIENT REPLY OFF", b"MULTI")
    action = one.handle([b"RESET"])
    assert action == Reset(Encoding.RESP2, unsubscribe=True, reply=b"+RESET\r\n")
    assert not one.subscribed
    assert tell(one, b"CLIENT GETNAME", b"EXEC") == [b"$-1\r\n", b"-ERR EXEC without MULTI\r\n"]


@pytest.mark.parametrize("verb", [b"SUBSCRIBE", b"SSUBSCRIBE", b"PSUBSCRIBE"])
def test_subscriptions_are_bounded(verb: bytes) -> None:
    """A request that passes the limit changes nothing; repeated names count once."""
    one = session(subscriptions_max=3, patterns_max=3)
    tell(one, b"HELLO 3", verb + b" a b")
    (refused,) = tell(one, verb + b" c d")
    assert refused.startswith(b"-ERR 4 ")
    assert b"limit of 3 per client" in refused
    assert (b"patterns-max" if verb == b"PSUBSCRIBE" else b"subscriptions-max") in refused
    assert isinstance(one.handle([verb, b"c", b"c", b"a"]), Subscribe)


def test_distinct_patterns_are_bounded_for_all_clients_together() -> None:
    """A pattern in use is free for others; one that is no longer used makes room."""
    limits = default_limits(patterns=Patterns(2))
    one, two = (Session(number, LoneSidecar(), limits) for number in (1, 2))
    tell(one, b"HELLO 3", b"PSUBSCRIBE a* b*")
    assert b"distinct-patterns-max" in tell(two, b"HELLO 3", b"PSUBSCRIBE a* c*")[1]
    assert isinstance(two.handle([b"PSUBSCRIBE", b"a*"]), Subscribe)
    tell(one, b"PUNSUBSCRIBE b*")
    assert isinstance(two.handle([b"PSUBSCRIBE", b"c*"]), Subscribe)
    two.close()
    one.close()
    assert len(limits.patterns) == 0


names: Callable[[], st.SearchStrategy[bytes]] = lambda: st.binary(max_size=6)  # noqa: E731
verbs = st.sampled_from([word for name in COMMANDS for word in name.split(b"|")])


@given(st.lists(st.lists(names() | verbs, min_size=1, max_size=5), max_size=8))
def test_no_request_breaks_a_session(requests: list[list[bytes]]) -> None:
    """Whatever words come, each request is one action with a reply that can be made."""
    one = LoneSidecar().join(1)
    for request in requests:
        reply = said(one.handle(request))
        assert reply == b"" or reply.endswith(b"\r\n")


@pytest.mark.parametrize(
    "line",
    [b"COMMAND", b"COMMAND DOCS", b"COMMAND INFO" + b" client" * 50, b"CLIENT LIST", b"INFO"],
)
def test_the_replies_of_a_transaction_are_bounded(line: bytes) -> None:
    """A few bytes ask for thousands: past the limit nothing is done and the connection ends."""
    sidecar = LoneSidecar(limits=default_limits(transaction_bytes_max=20_000))
    one, *_ = [sidecar.join(number) for number in range(10)]
    tell(one, b"MULTI", *[line] * (20_000 // (64 * len(line.split()) + len(line))))
    action = one.handle([b"EXEC"])

    assert isinstance(action, Close)
    assert b"transaction-bytes-max" in said(action)
    tell(one, b"DISCARD", b"MULTI", b"PING")
    assert isinstance(one.handle([b"EXEC"]), Exec)


def test_long_patterns_cost_nothing() -> None:
    """They match no setting, and no channel may be called so."""
    one = session(channel_bytes_max=100)
    assert tell(one, b"CONFIG GET " + b"[" * 1_000_000) == [b"*0\r\n"]
    assert tell(one, b"CONFIG GET " + b"save*" * 30) == [b"*0\r\n"]
    assert isinstance(one.handle([b"PUBSUB", b"CHANNELS", b"c" * 100]), Ask)
    for subcommand in (b"CHANNELS", b"SHARDCHANNELS"):
        (refused,) = tell(one, b"PUBSUB " + subcommand + b" " + b"c" * 101)
        assert b"channel-bytes-max" in refused


@pytest.mark.parametrize(
    "request_",
    [
        "EVAL x 0", "EVALSHA x 0", "SCRIPT LOAD x", "FUNCTION LOAD x", "CONFIG SET dir /", "SET k v",
        "CONFIG REWRITE", "DEBUG SLEEP 9", "SHUTDOWN", "REPLICAOF h 1", "SLAVEOF h 1", "MONITOR",
        "ACL SETUSER u on", "ACL LIST", "FLUSHALL", "KEYS *", "MODULE LOAD x", "SAVE", "MIGRATE h 1",
        "CLIENT PAUSE 9", "CLUSTER MEET h 1", "GET k", "SYNC", "PSYNC ? -1", "LATENCY RESET",
    ],
)  # fmt: skip
def test_nothing_but_pubsub_is_done(request_: str) -> None:
    """What reaches into a Redis gets an error here, and goes nowhere."""
    action = LoneSidecar().join(1).handle(request_.encode().split())

    assert isinstance(action, Reply)
    assert said(action).startswith(b"-ERR ")
