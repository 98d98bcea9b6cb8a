"""The exceptions of fanout; all derive from `FanoutError`."""


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group and its nested groups, or else `error` itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves(each)]


def root_of(error: BaseException) -> str:
    """Return the message of the root cause of an error, such as that of the system or of TLS."""
    while error.__cause__ is not None:
        error = leaves(error.__cause__)[0]
    return getattr(error, "strerror", None) or str(error) or repr(error)


class FanoutError(Exception):
    """Base of all fanout errors; never raised itself."""


class CodedError(FanoutError):
    """An error with a stable `code`; each subclass documents where its codes are listed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(FanoutError):
    """An option is invalid. The message names the option, the value and what is expected.

    Raised while the configuration is read, before anything is started. The commands print the
    message and exit with 2.
    """


class RemoteProtocolError(FanoutError):
    """A peer violated the protocol.

    `reply` holds the bytes to send before the connection is closed; it may be empty.
    """

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


class LinkLost(FanoutError):  # noqa: N818 - a fact of the network, named like the log event
    """A connection to a Redis or a sidecar was lost.

    Raised for every command without a reply. `written` tells whether the whole command may have
    been sent: if False it was not executed, if True the outcome is unknown.
    """

    def __init__(self, reason: str, *, written: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.written = written


class CommandFailed(FanoutError):  # noqa: N818 - Redis answered; the failure is the answer
    """Redis replied with an error. `code` is its first word, such as `NOPERM`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.split(" ", 1)[0]


class RegistryUnavailable(FanoutError):  # noqa: N818 - a state of discovery, not a bug
    """No discovery Redis was reachable for an operation."""


class SettingError(ConfigError):
    """An invalid option. `names` are the options that the message is about, underscored."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


class RequestFailed(FanoutError):  # noqa: N818 - the sidecar answered; the failure is the answer
    """A sidecar refused a request of `fanout.client`, or the outcome is unknown.

    `code` is stable; docs/websocket.md lists the codes.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class OutputFailed(FanoutError):  # noqa: N818 - a fact
    """Writing to stdout failed. `closed` tells that the reader closed it (broken pipe)."""

    def __init__(self, message: str, *, closed: bool = False) -> None:
        super().__init__(message)
        self.closed = closed


class FeedLost(FanoutError):  # noqa: N818 - a fact
    """The live feed of a sidecar's admin door could not be opened, or ended."""
