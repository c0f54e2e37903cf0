"""Runs one comparison under uvicorn.

Python -m comparisons.serve MODULE PORT, with the app in MODULE.

asyncio's own event loop serves them, because uvloop accepts a single new connection per turn of its
loop: with hundreds of clients the last one waits for seconds, and the comparison would look worse
than it is. Their orders/s are the same on both. On SIGUSR1 the process writes how many requests it
has answered to the file that REQUESTS_FILE names.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvicorn


async def _serve(module: str, port: int) -> None:
    config = uvicorn.Config(
        f"{module}:app",
        host="127.0.0.1",
        port=port,
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=2048,
    )
    server = uvicorn.Server(config)
    counted = Path(os.environ["REQUESTS_FILE"])

    def tell() -> None:
        making = counted.with_suffix(".new")
        making.write_text(str(server.server_state.total_requests))
        making.replace(counted)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    await server.serve()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
