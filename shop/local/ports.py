"""Free ports that stay ours.

A process that was killed finds its port again, and its peers find the process.

A port is held by a socket that is bound and never listens. The kernel then gives it to nobody who
asks for any port, also not while the process that listens there is dead, and still lets that
process listen, because both allow the address to be reused.
"""

import socket
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"


class Ports:
    """The ports of one run, given back when the run ends."""

    def __init__(self) -> None:
        self._holding: list[socket.socket] = []

    def reserve(self) -> int:
        """Return a port on the loopback interface that stays ours until ``release``."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        self._holding.append(holder)
        port: int = holder.getsockname()[1]
        return port

    def release(self) -> None:
        """Give all ports back."""
        while self._holding:
            self._holding.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
