"""How connections to PostgreSQL are made: who connects, with which password, and how long it may wait.

A URL is what libpq takes, without a password: `postgresql://user@host:5432/database?sslmode=verify-full`. Passwords
come from a file, which is read for every connection so that it may change, or else from PGPASSWORD or ~/.pgpass.
"""

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from gateway.errors import StartupError

CONNECT_S: Final = 3.0
STATEMENT_S: Final = 5.0
"""What has not answered by then is given up, and its connection with it."""
_SERVER_MS: Final = 4000
"""The server gives up first: then it is known that nothing was kept."""
SETTINGS: Final[dict[str, str]] = {
    "application_name": "cutover",
    "jit": "off",
    "statement_timeout": str(_SERVER_MS),
    "lock_timeout": str(_SERVER_MS),
    # A gateway that stands still in the middle of a change holds the others up no longer than this.
    "idle_in_transaction_session_timeout": str(_SERVER_MS),
}
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
"""What has been acknowledged is on disk, whatever the server does by default."""


class Driver:
    """Makes connections to one database."""

    def __init__(self, url: str, password_file: Path | None) -> None:
        self._url = url
        self._password_file = password_file

    def __str__(self) -> str:
        """Where it leads, without who goes there."""
        parts = urlsplit(self._url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def check(self) -> None:
        """Raises StartupError if there is no password where it should be."""
        try:
            self._password()
        except (OSError, UnicodeError) as error:
            raise StartupError(f"the password cannot be read ({error}): correct store.password_file") from None

    async def connect(self) -> Any:
        """A connection of asyncpg. Raises what asyncpg raises, and OSError."""
        connection = await asyncpg.connect(
            self._url,
            password=self._password(),
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            server_settings=SETTINGS,
        )
        try:
            await connection.execute(_DURABLE)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _password(self) -> str | None:
        return self._password_file.read_text("utf-8").strip() if self._password_file else None


def said(error: BaseException) -> str:
    """Why a connection is no good, in one line."""
    if isinstance(error, TimeoutError) and not error.args:
        return "the server does not answer"
    return str(error).partition("\n")[0] or type(error).__name__
