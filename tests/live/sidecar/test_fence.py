"""The publish gate by itself, on a real Redis: the base of a node's drain."""

import threading
from typing import Any

import pytest
import redis

from fanout.core.users import CTL_USER, DATA_USER, ctl_rules, data_rules
from fanout.runtime.redis.login import NO_PASSWORD
from tests.support.live.fleet import Fleet

pytestmark = pytest.mark.live

PUBLISHERS, SUBSCRIBERS, DEPTH = 4, 3, 100
END = b"END"


def logged_in(port: int, user: str, protocol: int = 2) -> redis.Redis:
    """Return a client that is logged in as one of the node's users."""
    return redis.Redis(port=port, username=user, password=NO_PASSWORD, protocol=protocol)


def with_users(fleet: Fleet) -> tuple[int, Any, int]:
    """Start a Redis with the node's users; return its port, its admin and its major version."""
    _, port = fleet.redis()
    admin: Any = redis.Redis(port=port)
    version = int(admin.info("server")["redis_version"].split(".")[0])
    admin.execute_command("ACL", "SETUSER", CTL_USER, *ctl_rules("", redis_version=version))
    admin.execute_command("ACL", "SETUSER", DATA_USER, *data_rules("", is_open=True))
    return port, admin, version


def test_the_fence_cuts_the_stream_exactly_and_disturbs_no_subscriber(fleet: Fleet) -> None:
    """Every subscriber gets what was executed ahead of END, nothing that was refused, and stays connected."""
    port, admin, _ = with_users(fleet)
    executed: list[set[bytes]] = [set() for _ in range(PUBLISHERS)]
    refused: list[set[bytes]] = [set() for _ in range(PUBLISHERS)]
    started = threading.Barrier(PUBLISHERS + 1)

    def publish(number: int) -> None:
        round_ = 0
        with logged_in(port, DATA_USER) as publisher:
            while not refused[number]:
                payloads = [b"%d/%d/%d" % (number, round_, each) for each in range(DEPTH)]
                pipeline = publisher.pipeline(transaction=False)
                for payload in payloads:
                    pipeline.publish("c", payload)
                answers = pipeline.execute(raise_on_error=False)
                for payload, answer in zip(payloads, answers, strict=True):
                    if isinstance(answer, redis.exceptions.NoPermissionError):
                        refused[number].add(payload)
                    else:
                        assert answer == SUBSCRIBERS
                        executed[number].add(payload)
                if round_ == 0:
                    started.wait()
                round_ += 1

    subscribers = [logged_in(port, CTL_USER).pubsub() for _ in range(SUBSCRIBERS)]  # type: ignore[no-untyped-call]
    for each in subscribers:
        each.subscribe("c")
        assert each.get_message(timeout=10)["type"] == "subscribe"
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    started.wait()
    admin.execute_command("ACL", "SETUSER", DATA_USER, *data_rules("", is_open=False))
    admin.publish("c", END)
    for thread in threads:
        thread.join()
    admin.publish("c", b"after")  # the subscribers are still there

    wanted, forbidden = set().union(*executed), set().union(*refused)
    assert forbidden
    assert wanted
    for each in subscribers:
        received = []
        while (message := each.get_message(timeout=10)) and message["data"] != END:
            received.append(message["data"])
        assert len(received) == len(wanted)
        assert set(received) == wanted
        assert each.get_message(timeout=10)["data"] == b"after"
        each.close()
    admin.close()


def test_each_user_may_do_what_it_is_for_and_nothing_else(fleet: Fleet) -> None:
    """On this Redis, whatever its version."""
    port, admin, version = with_users(fleet)
    with logged_in(port, CTL_USER) as ctl, logged_in(port, DATA_USER) as data:
        assert ctl.publish("__fanout:probe", "") == 0
        assert data.publish("c", "") == 0
        assert ctl.get("__fanout:identity") is None
        assert data.get("__fanout:identity") is None
        forbidden: list[Any] = [
            lambda: ctl.get("other"),
            lambda: ctl.set("__fanout:identity", "x"),
            lambda: data.set("__fanout:identity", "x"),
            lambda: data.get("other"),
            lambda: data.execute_command("PUBSUB", "CHANNELS"),
            lambda: ctl.config_get("*"),
            data.flushall,
        ]
        if version >= 7:
            forbidden.append(lambda: ctl.publish("c", ""))
        for attempt in forbidden:
            with pytest.raises(redis.exceptions.NoPermissionError):
                attempt()
    admin.close()
