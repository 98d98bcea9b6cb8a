"""The access control of the Redis in memory: as many of Redis' ACL rules as an agent uses."""

import re

import attrs

from fanout.core.glob import compile_pattern

_SELECTOR = re.compile(rb"\((.*)\)")


@attrs.define
class Rights:
    """Which commands are allowed on which keys and channels."""

    all_commands: bool = False
    denied: set[bytes] = attrs.field(factory=set)
    commands: set[bytes] = attrs.field(factory=set)
    keys: list[bytes] = attrs.field(factory=list)
    channels: list[bytes] = attrs.field(factory=list)

    def apply(self, rule: bytes) -> None:
        """Take one rule. Raises ValueError for one that is not known here."""
        if rule == b"+@all":
            self.all_commands = True
        elif rule == b"-@all":
            self.all_commands = False
            self.commands.clear()
        elif rule == b"resetchannels":
            self.channels.clear()
        elif rule[:1] == b"+":
            self.commands.add(rule[1:].upper())
        elif rule[:1] == b"-":
            self.commands.discard(rule[1:].upper())
            self.denied.add(rule[1:].upper())
        elif rule[:1] == b"~":
            self.keys.append(rule[1:])
        elif rule[:1] == b"&":
            self.channels.append(rule[1:])
        else:
            raise ValueError(rule)

    def refusal(self, verb: bytes, keys: list[bytes], channels: list[bytes]) -> str:
        """Return what is not allowed: `command`, `keys`, `channels`, or nothing."""
        if verb not in self.commands and (not self.all_commands or verb in self.denied):
            return "command"
        if not all(_is_allowed(key, self.keys) for key in keys):
            return "keys"
        return "" if all(_is_allowed(name, self.channels) for name in channels) else "channels"


def _is_allowed(name: bytes, patterns: list[bytes]) -> bool:
    return b"*" in patterns or any(compile_pattern(each)(name) for each in patterns)


@attrs.define
class User:
    """One user of a server."""

    enabled: bool = False
    nopass: bool = False
    passwords: set[bytes] = attrs.field(factory=set)
    rights: Rights = attrs.field(factory=Rights)
    selectors: list[Rights] = attrs.field(factory=list)

    def apply(self, rule: bytes) -> None:
        """Take one rule. Raises ValueError for one that is not known here."""
        if rule == b"reset":
            self.enabled = self.nopass = False
            self.passwords.clear()
            self.rights = Rights()
            self.selectors.clear()
        elif rule in (b"on", b"off"):
            self.enabled = rule == b"on"
        elif rule == b"nopass":
            self.nopass = True
        elif rule[:1] == b">":
            self.passwords.add(rule[1:])
        elif found := _SELECTOR.fullmatch(rule):
            self.selectors.append(Rights())
            for each in found[1].split():
                self.selectors[-1].apply(each)
        else:
            self.rights.apply(rule)

    def accepts(self, password: bytes) -> bool:
        """Whether the user may log in so."""
        return self.enabled and (self.nopass or password in self.passwords)

    def refusal(self, verb: bytes, keys: list[bytes], channels: list[bytes]) -> str:
        """Return Redis' error for a command the user may not run; empty when it may."""
        found = [each.refusal(verb, keys, channels) for each in (self.rights, *self.selectors)]
        if "" in found:
            return ""
        what = next((each for each in found if each != "command"), "command")
        if what == "command":
            return (
                f"NOPERM this user has no permissions to run the '{verb.decode().lower()}' command"
            )
        return f"NOPERM this user has no permissions to access one of the {what} used as arguments"


def default_user() -> User:
    """Return the user that every connection begins as."""
    return make_user(b"on", b"nopass", b"~*", b"&*", b"+@all")


def make_user(*rules: bytes) -> User:
    """Return a new user with these rules."""
    user = User()
    for rule in rules:
        user.apply(rule)
    return user
