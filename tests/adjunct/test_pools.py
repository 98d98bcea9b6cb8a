"""Who gets a user: shares, returning users, and instances that come and go."""

import json
import random
from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fanout.adjunct.gateway.affinity import TOKEN_CHARACTERS_MAX, Affinity
from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord, decode_instance
from fanout.adjunct.gateway.name_server import records_of
from fanout.adjunct.gateway.pools import NoInstance, Pick, Pools, UnknownPool
from fanout.adjunct.gateway.status import shown
from fanout.errors import RemoteProtocolError
from fanout.runtime.watch import Watch
from fanout.values import NodeState, Snapshot
from fanout.wire.records import encode_record

"""How many turns somebody may be ahead of, or behind, its share."""


def instance(name: str, state: NodeState = NodeState.ACTIVE, **other: Any) -> InstanceRecord:
    """Return a record."""
    values: dict[str, Any] = {
        "cluster": "c", "pool": "web", "incarnation": 1, "version": 1, "lease_seconds": 30.0,
        "address": f"https://{name}.example", **other,
    }  # fmt: skip
    return InstanceRecord(instance=name, state=state, **values)


class World:
    """Pools over what discovery says, and a clock that is set by hand."""

    def __init__(self, *, is_signed: bool = True) -> None:
        self.now = 1000.0
        self.watch = Watch("c", (INSTANCES,), instances=1)
        affinity = Affinity("s3cret", "c", 60) if is_signed else None
        self.pools = Pools(
            self.watch, affinity=affinity, rng=random.Random(1), wall_seconds=lambda: self.now
        )
        self._versions = 1

    def say(self, *instances: InstanceRecord) -> None:
        """Have discovery list these, as news."""
        self.watch.on_snapshot(0, Snapshot(further=instances))

    def move(self, name: str, state: NodeState, **other: Any) -> None:
        """Have one instance change its state."""
        self._versions += 1
        self.say(instance(name, state, version=self._versions, **other))


@pytest.fixture
async def world() -> World:
    """Pools that know of nothing yet."""
    return World()


# Pools.


async def test_new_users_go_to_active_instances_only(world: World) -> None:
    """Not to one that joins, drains or has left."""
    world.say(
        instance("a"),
        instance("b", weight=2),
        instance("j", NodeState.JOINING),
        instance("d", NodeState.DRAINING),
        instance("g", NodeState.GONE),
        instance("x", pool="other"),
    )
    picks = [world.pools.pick("web") for _ in range(30)]

    assert Counter(each.instance for each in picks) == {"a": 10, "b": 20}
    assert {each.address for each in picks} == {"https://a.example", "https://b.example"}
    assert not any(each.returning for each in picks)
    assert world.pools.pick("other").instance == "x"


async def test_a_returning_user_stays_while_the_instance_is_active(world: World) -> None:
    """However often it comes back and whoever else is handed out meanwhile; then it moves once."""
    world.say(*(instance(name) for name in "abc"))
    first = world.pools.pick("web")
    token = first.token
    for _ in range(20):
        again = world.pools.pick("web", token)
        token = again.token
        assert (again.instance, again.returning) == (first.instance, True)
        world.pools.pick("web")

    world.move(first.instance, NodeState.DRAINING)
    moved = world.pools.pick("web", token)
    assert moved.instance != first.instance
    assert not moved.returning
    assert world.pools.pick("web", moved.token).instance == moved.instance


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(NodeState)),  # it is so now
        st.integers(0, 5),  # this user asks
    ),
    max_size=60,
)


@given(steps=STEPS)
async def test_whatever_happens_users_go_to_active_instances_and_stay(
    steps: list[tuple[str, NodeState] | int],
) -> None:
    """A user moves exactly when its instance is not active, and is turned away only when none is."""
    world = World()
    world.say(instance("a"))
    lives = {"a": (1, NodeState.ACTIVE)}
    users: dict[int, Pick] = {}
    for step in steps:
        if isinstance(step, tuple):
            name, state = step
            lives[name] = (lives.get(name, (0, state))[0] + 1, state)
            world.say(instance(name, state, incarnation=lives[name][0]))
            continue
        before = users.get(step)
        active = {name for name, (_, state) in lives.items() if state is NodeState.ACTIVE}
        if not active:
            with pytest.raises(NoInstance):
                world.pools.pick("web", before.token if before else None)
            continue
        users[step] = pick = world.pools.pick("web", before.token if before else None)
        stays = before is not None and before.instance in active
        assert pick.instance in active
        assert pick.returning == stays
        assert not stays or before is None or pick.instance == before.instance


async def test_returning_users_take_nothing_from_the_share_of_new_ones(world: World) -> None:
    """One that comes back all day does not keep new users from its instance, or bring them."""
    world.say(instance("a"), instance("b"))
    token = world.pools.pick("web").token
    new = []
    for _ in range(10):
        world.pools.pick("web", token)
        new.append(world.pools.pick("web").instance)

    assert Counter(new) == {"a": 5, "b": 5}


async def test_a_token_is_renewed_and_ends(world: World) -> None:
    """An hour of coming back counts from the last time; without that it is a new user."""
    world.say(instance("a"), instance("b"))
    pick = world.pools.pick("web")
    for _ in range(5):
        world.now += 59
        pick = world.pools.pick("web", pick.token)
        assert pick.returning
    world.now += 60

    assert not world.pools.pick("web", pick.token).returning


async def test_without_a_secret_there_are_no_tokens() -> None:
    """And one that somebody made up means nothing."""
    world = World(is_signed=False)
    world.say(instance("a"), instance("b"))
    forged = Affinity("", "c", 60).token("web", "a", world.now)
    picks = [world.pools.pick("web", forged) for _ in range(4)]

    assert Counter(each.instance for each in picks) == {"a": 2, "b": 2}
    assert {each.token for each in picks} == {None}


async def test_an_unknown_pool_is_not_an_empty_one(world: World) -> None:
    """A pool that was there is told to come back later, any other that it is wrong."""
    world.say(instance("a"))
    with pytest.raises(NoInstance, match="not read yet"):
        World().pools.pick("webb")
    with pytest.raises(UnknownPool, match="'webb'") as unknown:
        world.pools.pick("webb")
    assert unknown.value.code == "NOPOOL"

    world.move("a", NodeState.GONE)
    with pytest.raises(NoInstance, match="'web'") as nobody:
        world.pools.pick("web")
    assert nobody.value.code == "NOINSTANCE"
    late = World()
    late.move("a", NodeState.GONE)
    with pytest.raises(NoInstance, match="'web'"):
        late.pools.pick("web")


# Tokens.

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(pool=NAMES, name=NAMES, now=st.floats(0, 1e10), age=st.floats(0, 200))
def test_a_token_names_its_instance_until_its_end(
    pool: str, name: str, now: float, age: float
) -> None:
    """To whoever has the secret, and to nobody of another secret, fleet or pool."""
    ours = Affinity("s3cret", "c", 100)
    token = ours.token(pool, name, now)

    assert len(token) <= TOKEN_CHARACTERS_MAX
    assert ours.instance(token, pool, now + age) == (name if now + age < int(now + 100) else None)
    assert Affinity("other", "c", 100).instance(token, pool, now) is None
    assert Affinity("s3cret", "d", 100).instance(token, pool, now) is None
    assert ours.instance(token, f"{pool}x", now) is None
    assert "s3cret" not in token


@given(data=st.data())
def test_a_token_that_was_changed_is_none(data: st.DataObject) -> None:
    """One character anywhere is enough."""
    ours = Affinity("s3cret", "c", 100)
    token = ours.token("web", "web-1", 0)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=300))
    assume(other != token[place])

    assert ours.instance(token[:place] + other + token[place + 1 :], "web", 0) is None


@given(token=st.one_of(st.text(), st.lists(st.text(), max_size=5).map("~".join)))
def test_anything_else_is_no_token(token: str) -> None:
    """Whatever a user sends: no error, and nobody is known by it."""
    ours = Affinity("s3cret", "c", 100)

    assert ours.instance(token, "web", 0) is None
    assert ours.instance(f"1~web-1~{token}", "web", 0) is None


@pytest.mark.parametrize("end", ["²", "-1", "", "9" * 5000])
def test_an_end_that_is_no_number_is_no_token(end: str) -> None:
    """Also where Python would call it digits, or take long to read it."""
    assert Affinity("s3cret", "c", 100).instance(f"1~web-1~{end}~x", "web", 0) is None


# Records.


def test_an_instance_comes_back_as_it_was_written() -> None:
    """With what a newer build may have added."""
    record = instance("a", ips=("192.0.2.1", "2001:db8::1"), weight=7, extra={"zone": "x"})

    assert decode_instance(encode_record(record)) == record
    assert record.id == "web/a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["192.0.2.1", "::1", "fe80::1%eth0", "https://a.example", "active"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5,
)  # fmt: skip


@given(field=st.sampled_from([*attrs.fields_dict(InstanceRecord), "other"]), value=JSON)
def test_whatever_discovery_holds_is_a_record_or_refused(field: str, value: object) -> None:
    """And what is taken can be written again, told to callers, and put into DNS."""
    data = {**json.loads(encode_record(instance("a", ips=("::1",)))), field: value}
    try:
        record = decode_instance(json.dumps(data).encode())
    except RemoteProtocolError:
        return

    assert decode_instance(encode_record(record)) == record
    assert shown([record])
    assert sum(map(len, records_of(record.ips, 30).values())) == len(set(record.ips))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "javascript:alert(1)"),
        ("address", "https://user@evil.example"),
        ("address", "https://a.example/\r\nSet-Cookie: x=y"),
        ("address", "https://a.example/" + "x" * 300),
        ("address", "a.example"),
        ("address", "a.example:0"),
        ("address", "a.example:99999"),
        ("address", 7),
        ("ips", ["localhost"]),
        ("ips", ["192.0.2.1"] * 17),
        ("ips", "192.0.2.1/24"),
        ("ips", ["fe80::1%eth0"]),
        ("weight", 0),
        ("weight", 1001),
        ("weight", True),
        ("weight", "1"),
        ("pool", "a/b"),
        ("instance", ""),
        ("state", "asleep"),
    ],
)
def test_a_record_that_would_harm_is_refused(field: str, value: object) -> None:
    """What goes into redirects and DNS is checked, whoever wrote it; the error names the field."""
    data = {**json.loads(encode_record(instance("a"))), field: value}
    with pytest.raises(RemoteProtocolError, match=f"field {field} "):
        decode_instance(json.dumps(data).encode())
