"""Purges and reports as messages: what may be named, and what is refused."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.purge.message import (
    KEY,
    KEY_CHARACTERS_MAX,
    MESSAGE_BYTES_MAX,
    NAMES_MAX,
    URL_CHARACTERS_MAX,
    Kind,
    Outcome,
    Purge,
    Report,
    Target,
    UnknownVersion,
    by_key,
    by_url,
    decode_purge,
    decode_report,
    everything,
    target_of,
)
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values import NAME
from fanout.wire.records import encode_record

PURGE = {
    "v": 1,
    "type": "purge",
    "id": "1",
    "kind": "key",
    "names": ["k"],
    "time": 5,
    "origin": "o",
}
REPORT = {
    "v": 1,
    "type": "report",
    "id": "1",
    "edge": "e",
    "outcome": "failed",
    "code": "c",
    "message": "m",
}

keys = st.from_regex(KEY, fullmatch=True)
paths = st.text("abc/%.?=&;+()[]'", max_size=20)
urls = st.builds("https://h.example/{}".format, paths)
targets = st.one_of(
    st.just(everything()),
    st.lists(keys, min_size=1, max_size=NAMES_MAX).map(lambda names: by_key(*names)),
    st.lists(urls, min_size=1, max_size=NAMES_MAX).map(lambda names: by_url(*names)),
)
names = st.from_regex(NAME, fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True)
times = st.floats(allow_nan=False, allow_infinity=False)


def purge_of(target: Target, id_: str, time: float, origin: str) -> Purge:
    """Return a purge of something."""
    return Purge(id=id_, kind=target.kind, names=target.names, time=time, origin=origin)


purges = st.builds(purge_of, targets, ids, times, names)
reports = st.builds(
    Report,
    id=ids,
    edge=names,
    outcome=st.sampled_from(Outcome),
    code=st.from_regex(r"[a-z_]{0,64}", fullmatch=True),
    message=st.text(st.characters(codec="utf-8"), max_size=512).filter(str.isprintable),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(purges)
def test_a_purge_comes_back_as_it_was(purge: Purge) -> None:
    """And whatever may be named is small enough."""
    data = encode_record(purge)

    assert decode_purge(data) == purge
    assert len(data) <= MESSAGE_BYTES_MAX


@given(reports)
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    """Whatever the words are."""
    assert decode_report(encode_record(report)) == report


def test_the_largest_purge_fits() -> None:
    """64 URLs of full length, every character written in the longest way."""
    url = "https://h/" + "/" * (URL_CHARACTERS_MAX - 10)
    purge = purge_of(by_url(*[url] * NAMES_MAX), "1" * 64, 0.1, "o")

    assert decode_purge(encode_record(purge)) == purge


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_other_bytes_are_refused(data: bytes) -> None:
    """With the one documented error."""
    for decode in (decode_purge, decode_report):
        with pytest.raises(RemoteProtocolError):
            decode(data)


@given(st.sampled_from(sorted({*PURGE, *REPORT})), values)
def test_a_wrong_field_is_refused_or_understood(field: str, value: object) -> None:
    """Nothing but the documented errors comes out."""
    for fields, decode in ((PURGE, decode_purge), (REPORT, decode_report)):
        try:
            decode(json.dumps({**fields, field: value}).encode())
        except (RemoteProtocolError, UnknownVersion):
            continue


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"v": 0}, "field v of a record: not a version"),
        ({"v": True}, "field v of a record: not a version"),
        ({"id": "a b"}, "field id of a record"),
        ({"id": 5}, "field id of a record"),
        ({"kind": "tag"}, "field kind of a record"),
        ({"kind": "all"}, "all: 1 names; give no name"),
        ({"names": []}, "key: 0 names; give 1 to 64 names"),
        ({"names": ["k"] * 65}, "key: 65 names"),
        ({"names": "k"}, "not a list of texts"),
        ({"names": [1]}, "not a list of texts"),
        ({"names": [".*"]}, "is not allowed"),
        ({"origin": "a b"}, "field origin of a record: not a name"),
        ({"more": "x" * MESSAGE_BYTES_MAX}, "bytes is over"),
    ],
)
def test_why_a_purge_is_refused(change: dict[str, object], why: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(RemoteProtocolError, match=re.escape(why)):
        decode_purge(json.dumps({**PURGE, **change}).encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"edge": ""}, "field edge of a record: not a name"),
        ({"outcome": "done"}, "field outcome of a record"),
        ({"code": "A"}, "field code of a record"),
        ({"message": "a\x1b[2J"}, "not printable"),
    ],
)
def test_why_a_report_is_refused(change: dict[str, object], why: str) -> None:
    """What an edge says ends up on terminals."""
    with pytest.raises(RemoteProtocolError, match=re.escape(why)):
        decode_report(json.dumps({**REPORT, **change}).encode())


def test_later_versions_are_told_apart_and_further_fields_ignored() -> None:
    """A later build may say more; what means something else has another version."""
    assert decode_purge(json.dumps({**PURGE, "x": 1}).encode()).target == by_key("k")
    assert decode_report(json.dumps({**REPORT, "x": 1}).encode()).edge == "e"
    with pytest.raises(UnknownVersion):
        decode_purge(json.dumps({**PURGE, "v": 2}).encode())


@pytest.mark.parametrize(
    ("text", "checked"),
    [
        ("https://h", "https://h/"),
        ("HTTPS://H.Example:443/A?B=C", "https://h.example/A?B=C"),
        ("http://h:80?x", "http://h/?x"),
        ("http://h:443/", "http://h:443/"),
        ("http://[::1]:8080/%2F/../x", "http://[::1]:8080/%2F/../x"),
    ],
)
def test_urls_become_what_caches_know(text: str, checked: str) -> None:
    """Host without its case and default port; the path untouched."""
    assert by_url(text).names == (checked,)
    assert by_url(checked).names == (checked,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "h/a",
        "ftp://h/a",
        "http:///a",
        "http://u:p@h/",
        "http://h/#f",
        "http://h{x/",
        "http://h%2f/",
        "http://h\u212a/",
        "http://h/a b",
        "http://h/\n",
        "http://h/é",
        "http://h:0/",
        "http://h:x/",
        "http://[::1/",
        'http://h/"',
        "http://h/" + "x" * URL_CHARACTERS_MAX,
    ],
)
def test_what_is_no_url_of_a_page(text: str) -> None:
    """The message names it, at a bearable length."""
    with pytest.raises(ConfigError, match=r"^url: ") as caught:
        by_url(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["", "a b", ".a", "a*", "a|b", "a\n", "é", "a" * 257, 'a"', "a\\"])
def test_what_is_no_key(text: str) -> None:
    """Nothing that has a meaning in a header, a body, or a regular expression besides the dot."""
    with pytest.raises(ConfigError, match=f"^key: .*1 to {KEY_CHARACTERS_MAX} letters"):
        by_key(text)


def test_kinds_as_they_are_typed() -> None:
    """What the command line gives."""
    assert target_of("url", ["http://h"]) == by_url("http://h")
    assert target_of("key", ["a", "b"]) == Target(Kind.KEY, ("a", "b"))
    assert target_of("all", []) == everything()
    with pytest.raises(ConfigError, match="give no name"):
        target_of("all", ["a"])
