"""Assigning users to instances: shares, returning users, and instances that come and go."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct import gateway
from fanout.adjunct.gateway import Pick, Pools
from fanout.values.records import NodeState
from tests.support.adjunct.gateway import SECRET, Fleet, instance


@pytest.fixture
async def fleet() -> Fleet:
    """Pools that know of nothing yet."""
    return Fleet()


# Choosing.


async def test_new_users_go_to_active_instances_only(fleet: Fleet) -> None:
    """By weight; and not to one that joins, drains or has left."""
    fleet.say(
        instance("a"),
        instance("b", weight=2),
        instance("j", NodeState.JOINING),
        instance("d", NodeState.DRAINING),
        instance("g", NodeState.GONE),
        instance("x", pool="other"),
    )
    picks = [fleet.pools.pick("web") for _ in range(30)]

    assert Counter(each.instance for each in picks) == {"a": 10, "b": 20}
    assert {each.address for each in picks} == {"https://a.example", "https://b.example"}
    assert not any(each.returning for each in picks)
    assert fleet.pools.pick("other").instance == "x"


async def test_returning_users_take_nothing_from_the_share_of_new_ones(fleet: Fleet) -> None:
    """One that comes back all day does not keep new users from its instance, or bring them."""
    fleet.say(instance("a"), instance("b"))
    token = fleet.pools.pick("web").token
    new = []
    for _ in range(10):
        token = fleet.pools.pick("web", token).token
        new.append(fleet.pools.pick("web").instance)

    assert Counter(new) == {"a": 5, "b": 5}


async def test_a_returning_user_stays_while_the_instance_is_active(fleet: Fleet) -> None:
    """However often it returns and whatever other users are assigned; then it moves once."""
    fleet.say(*(instance(name) for name in "abc"))
    first = fleet.pools.pick("web")
    token = first.token
    for _ in range(20):
        again = fleet.pools.pick("web", token)
        token = again.token
        assert (again.instance, again.returning) == (first.instance, True)
        fleet.pools.pick("web")

    fleet.move(first.instance, NodeState.DRAINING)
    moved = fleet.pools.pick("web", token)
    assert moved.instance != first.instance
    assert not moved.returning
    assert fleet.pools.pick("web", moved.token).instance == moved.instance


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
    fleet = Fleet()
    fleet.say(instance("a"))
    lives = {"a": (1, NodeState.ACTIVE)}
    users: dict[int, Pick] = {}
    for step in steps:
        if isinstance(step, tuple):
            name, state = step
            lives[name] = (lives.get(name, (0, state))[0] + 1, state)
            fleet.say(instance(name, state, incarnation=lives[name][0]))
            continue
        before = users.get(step)
        active = {name for name, (_, state) in lives.items() if state is NodeState.ACTIVE}
        if not active:
            assert fleet.code("web") == "NOINSTANCE"
            continue
        users[step] = pick = fleet.pools.pick("web", before.token if before else None)
        stays = before is not None and before.instance in active
        assert pick.instance in active
        assert pick.returning == stays
        assert not stays or before is None or pick.instance == before.instance


async def test_an_unknown_pool_is_not_an_empty_one(fleet: Fleet) -> None:
    """A known pool without instances asks to retry later; an unknown one is an error."""
    fleet.say(instance("a"))
    assert (Fleet().code("webb"), fleet.code("webb")) == ("NOINSTANCE", "NOPOOL")
    fleet.move("a", NodeState.DRAINING)
    assert fleet.code("web") == "NOINSTANCE"
    fleet.move("a", NodeState.GONE)
    assert fleet.code("web") == "NOINSTANCE"
    late = Fleet()
    late.move("a", NodeState.GONE)
    assert late.code("web") == "NOINSTANCE"


async def test_pools_that_were_are_forgotten(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither they nor invented names stay in memory."""
    monkeypatch.setattr(gateway, "MEMBERS_MAX", 3)
    for number in range(20):
        fleet.say(instance("a", pool=f"pool-{number}"))
        assert fleet.pools.pick(f"pool-{number}").instance == "a"
        fleet.code(f"unknown-{number}")

    assert len(fleet.pools._turns) <= 4


# Tokens.


@given(data=st.data())
async def test_a_token_that_was_changed_names_nobody_else(data: st.DataObject) -> None:
    """A changed character makes it invalid, except for bits that base64 ignores."""
    fleet = Fleet()
    fleet.say(instance("a"), instance("b"))
    pick = fleet.pools.pick("web")
    token = pick.token or ""
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.characters()) + token[place + 1 :]
    again = fleet.pools.pick("web", changed)

    assert again.instance == pick.instance or not again.returning
    assert not (again.returning and place == 0 and changed != token)
    assert SECRET not in token + repr(fleet.pools)


@given(token=st.one_of(st.text(), st.lists(st.text()).map(".".join), st.just("a." * 10_000)))
async def test_anything_else_is_no_token(token: str) -> None:
    """Whatever a user sends: no error, and no returning user."""
    fleet = Fleet()
    fleet.say(instance("a"))

    assert not fleet.pools.pick("web", token).returning
    assert not fleet.pools.pick("web", f"a.{token}").returning


async def test_a_token_is_good_for_one_pool_of_one_fleet_and_secret(fleet: Fleet) -> None:
    """At every process that hands out there, and nowhere else."""
    fleet.say(instance("a"), instance("a", pool="other"))
    token = fleet.pools.pick("web").token
    again = Pools(fleet.watch, "default", "s3cret", random.Random(2)).pick("web", token)
    others = [
        fleet.pools.pick("other", token),
        Pools(fleet.watch, "another", "s3cret", random.Random(1)).pick("web", token),
        Pools(fleet.watch, "default", "another", random.Random(1)).pick("web", token),
    ]

    assert again.returning
    assert not any(each.returning for each in others)


async def test_without_a_secret_there_are_no_tokens() -> None:
    """And an invented one is ignored."""
    fleet = Fleet(secret="")
    fleet.say(instance("a"), instance("b"))
    picks = [fleet.pools.pick("web", "a") for _ in range(4)]

    assert Counter(each.instance for each in picks) == {"a": 2, "b": 2}
    assert {each.token for each in picks} == {None}
