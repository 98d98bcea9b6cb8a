"""Purges and reports as messages: what may be named, and what is refused."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.purge import (
    KEY,
    NAMES_MAX,
    Kind,
    Outcome,
    Purge,
    Report,
    Target,
    by_key,
    by_url,
    decode,
    everything,
)
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values.names import NAME
from fanout.wire.records import encode_record

PURGE = {"id": "1", "kind": "key", "names": ["k"], "origin": "o"}
REPORT = {"id": "1", "edge": "e", "outcome": "failed", "code": "c", "message": "m"}
URL_CHARACTERS_MAX = 2048

keys = st.from_regex(KEY, fullmatch=True)
urls = st.builds("https://h.example/{}".format, st.text("abc/%.?=&;+()[]'{}", max_size=20))
targets = st.one_of(
    st.just(everything()),
    st.lists(keys, min_size=1, max_size=NAMES_MAX).map(lambda names: by_key(*names)),
    st.lists(urls, min_size=1, max_size=NAMES_MAX).map(lambda names: by_url(*names)),
)
names = st.from_regex(NAME, fullmatch=True)
reports = st.builds(
    Report,
    id=names,
    edge=names,
    outcome=st.sampled_from(Outcome),
    code=st.just("") | st.from_regex(r"[a-z_]{1,64}", fullmatch=True).filter(NAME.fullmatch),
    message=st.text(st.characters(codec="utf-8"), max_size=512).filter(str.isprintable),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def purge_of(target: Target, id_: str = "1", origin: str = "o") -> Purge:
    """Return a purge of something."""
    return Purge(id=id_, kind=target.kind, names=target.names, origin=origin)


@given(st.builds(purge_of, targets, names, names))
def test_a_purge_comes_back_as_it_was(purge: Purge) -> None:
    """Whatever may be named."""
    assert decode(Purge, encode_record(purge)) == purge


@given(reports)
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    """Whatever the words are."""
    assert decode(Report, encode_record(report)) == report


def test_the_largest_purge_fits() -> None:
    """64 URLs of full length."""
    url = "https://h/" + "/" * (URL_CHARACTERS_MAX - 10)
    purge = purge_of(by_url(*[url] * NAMES_MAX), "1" * 64, "o" * 64)

    assert decode(Purge, encode_record(purge)) == purge


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_other_bytes_are_refused(data: bytes) -> None:
    """With the one documented error."""
    for kind in (Purge, Report):
        with pytest.raises(RemoteProtocolError):
            decode(kind, data)


@given(st.sampled_from(sorted({*PURGE, *REPORT})), values)
def test_a_wrong_field_is_refused_or_understood(field: str, value: object) -> None:
    """Nothing but the documented errors comes out, and what is read can be shown."""
    for kind, fields in ((Purge, PURGE), (Report, REPORT)):
        try:
            found = decode(kind, json.dumps({**fields, field: value}).encode())
        except (RemoteProtocolError, ConfigError):
            continue
        assert not isinstance(found, Report) or f"{found.code}{found.message}".isprintable()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": "a b"}, "field id of a record: not a name"),
        ({"id": 5}, "field id of a record: not a name"),
        ({"kind": "tag"}, "field kind of a record"),
        ({"kind": "all"}, "all: 1 names, expected no name"),
        ({"names": []}, "key: 0 names, expected 1 to 64 names"),
        ({"names": ["k"] * 65}, "key: 65 names"),
        ({"names": "k"}, "not a list of strings"),
        ({"names": [1]}, "not a list of strings"),
        ({"names": [".*"]}, "key: invalid value '.*'"),
        ({"kind": "url", "names": ["k"]}, "url: invalid value 'k'"),
        ({"origin": "a b"}, "field origin of a record: not a name"),
        ({"more": "x" * 256 * 1024}, "bytes exceeds"),
    ],
)
def test_why_a_purge_is_refused(change: dict[str, object], why: str) -> None:
    """The error says what is wrong."""
    with pytest.raises((RemoteProtocolError, ConfigError), match=re.escape(why)):
        decode(Purge, json.dumps({**PURGE, **change}).encode())


@pytest.mark.parametrize("change", [{"edge": ""}, {"outcome": "done"}, {"code": "a b"}])
def test_why_a_report_is_refused(change: dict[str, str]) -> None:
    """The error names the field."""
    with pytest.raises(RemoteProtocolError, match=f"field {next(iter(change))} of a record"):
        decode(Report, json.dumps({**REPORT, **change}).encode())


def test_what_an_edge_says_cannot_speak_to_a_terminal() -> None:
    """It ends up on one; and it is not kept at any length."""
    said = json.dumps({**REPORT, "message": "a\x1b[2J" + "x" * 1000}).encode()
    assert decode(Report, said).message == r"a\x1b[2J" + "x" * 507


def test_further_fields_are_ignored() -> None:
    """A later build may say more."""
    assert decode(Purge, json.dumps({**PURGE, "x": 1}).encode()) == purge_of(by_key("k"))
    assert decode(Report, json.dumps({**REPORT, "x": 1}).encode()).edge == "e"


@pytest.mark.parametrize(
    ("text", "checked"),
    [
        ("https://h", "https://h/"),
        ("HTTPS://H.Example:443/A?B=C", "https://h.example/A?B=C"),
        ("http://h:80?x", "http://h/?x"),
        ("http://h:443/", "http://h:443/"),
        ("http://h:8080/", "http://h:8080/"),
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
        *("", "/a", "h/a", "ftp://h/a", "http:///a", "http://u:p@h/", "http://h/#f"),
        *("http://h{x/", "http://h%2f/", "http://h\u212a/", "http://h/a b", "http://h/\n"),
        *("http://h/é", "http://h:0/", "http://h:x/", "http://[::1/", 'http://h/"'),
        *("http://h/\\", "http://h/<", "http://h\n", "\nhttp://h/"),
        "http://h/" + "x" * URL_CHARACTERS_MAX,
    ],
)
def test_what_is_no_url_of_a_page(text: str) -> None:
    """The message names it, at a bearable length."""
    with pytest.raises(
        ConfigError, match=r"^url: invalid value .*: expected http://HOST"
    ) as caught:
        by_url(text)
    assert len(str(caught.value)) < 700


def test_a_password_is_masked_before_the_url_is_cut() -> None:
    """Else the sign behind it would be cut off, and with it what says that it is one."""
    with pytest.raises(ConfigError) as caught:
        by_url(f"http://user:canary{'x' * 600}@h/")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a b", ".a", "a*", "a|b", "a\n", "é", "a" * 257, 'a"', "a\\"])
def test_what_is_no_key(text: str) -> None:
    """Nothing that has a meaning in a header, a body, or a regular expression besides the dot."""
    with pytest.raises(ConfigError, match=r"^key: .*1 to 256 letters"):
        by_key(text)
    assert by_key("a" * 256) == Target(Kind.KEY, ("a" * 256,))
