"""The error tree. An error knows its gRPC status and whether a retry may help; whoever meets it need not inspect it.

CutoverError
+-- RequestError          something is wrong with one call; becomes its gRPC status
|   +-- InvalidRequest    INVALID_ARGUMENT     malformed message, tensor, parameter; etag absent
|   +-- OutOfRange        OUT_OF_RANGE         past the end of what there is
|   +-- NotFound          NOT_FOUND            no such model or version
|   +-- NotReady          UNAVAILABLE          loading, failed to load, worker lost; retry may help
|   +-- QueueFull         RESOURCE_EXHAUSTED   bounded queue full; carries the pushback
|   +-- TooMany           RESOURCE_EXHAUSTED   more than one answer, or a table, may hold
|   +-- Late              DEADLINE_EXCEEDED    the caller's deadline passed
|   +-- InferenceFailed   INTERNAL             the model raised
|   +-- Unauthenticated   UNAUTHENTICATED      who calls the admin API is not known
|   +-- Forbidden         PERMISSION_DENIED    the gateway's settings, or the caller's role, do not allow it
|   +-- AlreadyExists     ALREADY_EXISTS       the name is taken
|   +-- Refused           FAILED_PRECONDITION  the release refuses the command; nothing changed
|   +-- Stale             ABORTED              the etag names another state; read again
|   +-- StoreFailed       UNAVAILABLE          the store did not answer
+-- StartupError          the gateway cannot start; one line and a remedy, exit code 2

What a transport refuses by itself (unknown method, message too large) has no class: it never becomes a Call.
"""

import re
from enum import IntEnum, StrEnum
from typing import ClassVar, Final

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Code(IntEnum):
    """gRPC status codes (grpc/grpc doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refusal(StrEnum):
    """Why a change was refused, as machines read it."""

    REFUSED = "REFUSED"
    """Anything that has no word of its own."""
    NO_RELEASE = "NO_RELEASE"
    HAS_RELEASE = "HAS_RELEASE"
    PAUSED = "PAUSED"
    IS_STABLE = "IS_STABLE"
    NO_STANDBY = "NO_STANDBY"
    NO_SUCH_ARM = "NO_SUCH_ARM"
    NO_SUCH_SHADOW = "NO_SUCH_SHADOW"
    NO_SUCH_REVISION = "NO_SUCH_REVISION"
    NOTHING_TO_ROLL_BACK = "NOTHING_TO_ROLL_BACK"
    SHARES_TOO_HIGH = "SHARES_TOO_HIGH"
    UNITS_STAY = "UNITS_STAY"
    TOO_MANY_OVERRIDES = "TOO_MANY_OVERRIDES"
    CANNOT_BE_LOADED = "CANNOT_BE_LOADED"
    GATEWAY_LIVES = "GATEWAY_LIVES"


class CutoverError(Exception):
    """Anything Cutover raises on purpose. `str(error)` is one line fit for the person it concerns."""


class RequestError(CutoverError):
    """Something is wrong with one call."""

    code: ClassVar[Code] = Code.UNKNOWN
    retryable: ClassVar[bool] = False
    """The same call may succeed a little later."""
    field: str = ""
    """The field of the request that is wrong; "": none in particular."""
    subject: str = ""
    """What is not in the state that the call needs, as a resource name; "": nothing in particular."""
    reason: str = "REQUEST_ERROR"
    """The name of the class as machines read it, e.g. QUEUE_FULL (google.rpc.ErrorInfo); of a Refused, why."""
    pushback_ms: int | None = None
    """How long the caller is told to wait before it asks again; None: as it likes."""

    def __init_subclass__(cls) -> None:
        cls.reason = _WORD.sub("_", cls.__name__).upper()


class InvalidRequest(RequestError):
    """The call itself is malformed: message, tensor, parameter, or a change without an etag."""

    code = Code.INVALID_ARGUMENT

    def __init__(self, message: str, field: str = "") -> None:
        """`field`: of the request, if it is one that is wrong (google.rpc.BadRequest)."""
        super().__init__(message)
        self.field = field


class OutOfRange(RequestError):
    """It names something past the end of what there is: a change that the store has not made."""

    code = Code.OUT_OF_RANGE


class NotFound(RequestError):
    """No such model or version."""

    code = Code.NOT_FOUND


class NotReady(RequestError):
    """The version is loading, failed to load, or loses its workers."""

    code = Code.UNAVAILABLE
    retryable = True


class QueueFull(RequestError):
    """A bounded queue is full. `pushback_ms` travels as `grpc-retry-pushback-ms` (gRFC A6)."""

    code = Code.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(self, message: str, pushback_ms: int) -> None:
        super().__init__(message)
        self.pushback_ms = pushback_ms


class TooMany(RequestError):
    """More than is allowed: one answer would hold, or is registered already; asking for less helps."""

    code = Code.RESOURCE_EXHAUSTED


class Late(RequestError):
    """The caller's deadline passed before an answer was there."""

    code = Code.DEADLINE_EXCEEDED


class InferenceFailed(RequestError):
    """The model raised while it ran."""

    code = Code.INTERNAL


class Unauthenticated(RequestError):
    """Who calls the admin API is not known. `caller`: who it would be if the token still held; "": nobody."""

    code = Code.UNAUTHENTICATED

    def __init__(self, message: str, caller: str = "") -> None:
        super().__init__(message)
        self.caller = caller


class Forbidden(RequestError):
    """The gateway's settings do not allow this to clients, or its role to an operator; the text says which would."""

    code = Code.PERMISSION_DENIED


class AlreadyExists(RequestError):
    """The name is taken: a region of shared memory."""

    code = Code.ALREADY_EXISTS


class Refused(RequestError):
    """The release refuses the command; nothing changed."""

    code = Code.FAILED_PRECONDITION

    def __init__(self, message: str, why: Refusal = Refusal.REFUSED) -> None:
        super().__init__(message)
        self.reason = why.value


class Stale(RequestError):
    """The etag names a state that is no longer current: the same call can never succeed, one decided anew may."""

    code = Code.ABORTED


class StoreFailed(RequestError):
    """The store did not answer; nothing was acknowledged."""

    code = Code.UNAVAILABLE
    retryable = True


class StartupError(CutoverError):
    """The gateway cannot start: one line that names the thing and the remedy."""

    exit_code: ClassVar[int] = 2
