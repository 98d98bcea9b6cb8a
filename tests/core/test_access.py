"""Users of the doors: their secrets, and what they may do."""

from typing import Any

import pytest

from fanout.core.access import Users, digest
from fanout.errors import ConfigError


def users(**values: Any) -> Users:
    """Return one user `u` with the secret `s`, and what else is given."""
    return Users.from_mapping({"users": {"u": {"secrets": [digest(b"s")], **values}}})


def test_nothing_is_allowed_that_is_not_listed() -> None:
    """A user without lists may log in and do nothing."""
    access = users().log_in("u", b"s")

    assert access is not None
    assert not access.may_publish(b"c")
    assert not access.may_subscribe(b"c")
    assert not access.may_psubscribe(b"*")


def test_channels_match_and_patterns_must_be_listed_letter_by_letter() -> None:
    """The rules of Redis' ACL; `*` alone allows everything."""
    access = users(publish=["a.*"], subscribe=["b?", "c"], psubscribe=["d.*"]).log_in("u", b"s")
    everything = users(publish=["*"], subscribe=["*"], psubscribe=["*"]).log_in("u", b"s")

    assert access is not None
    assert [access.may_publish(each) for each in (b"a.x", b"a.", b"a", b"")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [access.may_subscribe(each) for each in (b"b1", b"c", b"cc", b"b")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [access.may_psubscribe(each) for each in (b"d.*", b"d.x", b"d.?", b"*")] == [
        True, False, False, False,
    ]  # fmt: skip
    assert everything is not None
    assert everything.may_publish(b"") and everything.may_subscribe(b"\xff")
    assert everything.may_psubscribe(b"anything*")


def test_secrets_are_several_and_found_by_name_or_alone() -> None:
    """A new one works before the old one is taken back."""
    both = users(secrets=[digest(b"old"), digest(b"new")])
    assert both.log_in("u", b"old") and both.log_in("u", b"new")
    assert both.log_in("u", b"x") is None
    assert both.log_in("v", b"old") is None
    assert both.log_in("", b"") is None
    token = both.log_in_by_token(b"new")
    assert token is not None and token.user == "u"
    assert both.log_in_by_token(b"") is None


def test_a_client_keeps_its_access_only_as_long_as_its_secret() -> None:
    """And gets the rights that the user has now."""
    before = users(secrets=[digest(b"old"), digest(b"new")], publish=["a"])
    access = before.log_in("u", b"old")
    assert access is not None
    after = users(secrets=[digest(b"old")], publish=["b"]).renew(access)

    assert after is not None
    assert (after.may_publish(b"a"), after.may_publish(b"b")) == (False, True)
    assert users(secrets=[digest(b"new")]).renew(access) is None
    assert Users.from_mapping({"users": {"v": {"secrets": [digest(b"old")]}}}).renew(access) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "[users.NAME]"),
        ({"users": {}}, "[users.NAME]"),
        ({"users": []}, "[users.NAME]"),
        ({"users": {"u": {"secrets": [digest(b"x")]}}, "more": 1}, "[users.NAME]"),
        ({"users": {"-": {"secrets": [digest(b"x")]}}}, "invalid name '-'"),
        ({"users": {"u": {}}}, "u needs secrets"),
        ({"users": {"u": {"secrets": []}}}, "u needs secrets"),
        ({"users": {"u": {"secrets": ["canary"]}}}, "fanout-sidecar digest"),
        ({"users": {"u": {"secrets": "canary"}}}, "secrets of u must be a list"),
        ({"users": {"u": {"secrets": [digest(b"x")], "publish": [1]}}}, "publish of u must be"),
        (
            {"users": {"u": {"secrets": [digest(b"x")], "subscribe": ["__fanout:x"]}}},
            "reserved for fanout",
        ),
        ({"users": {"u": {"secrets": [digest(b"x")], "canary": []}}}, "nothing else"),
        ({"users": {"u": {"secrets": [digest(b"x")]}, "v": {"secrets": [digest(b"x")]}}}, "same"),
    ],
)
def test_a_wrong_file_is_refused_without_repeating_secrets(values: Any, says: str) -> None:
    """The message names the user and what is allowed."""
    with pytest.raises(ConfigError) as error:
        Users.from_mapping(values)

    assert says in str(error.value)
    assert "canary" not in str(error.value)
