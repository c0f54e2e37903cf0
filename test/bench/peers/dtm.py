"""DTM, a coordinator for distributed transactions.

Built by Go from its published module, run in TCC mode on PostgreSQL.

Its settings are those of its own benchmark (warnings only in the log) and of its documentation
(branch states written in batches, which is its default), with no more connections than the server
can bear.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from psycopg2.extensions import parse_dsn
from systems import PARTICIPANTS, Comparison, Program
from usage import Server

from shop.local.ports import LOOPBACK

HERE = Path(__file__).parent
NAME = "DTM"
MODULE = "github.com/dtm-labs/dtm"
BUILD_SECONDS = 900
SCHEMA = "dtm"
CLIENTS = (1, 16, 64)
CONNECTIONS = 30


class Unbuilt(Exception):
    """DTM could not be had, and says why."""


@dataclass(frozen=True)
class Built:
    """DTM's program, and the scripts for its tables, which come with its module."""

    binary: Path
    scripts: Path
    version: str


def build(folder: Path, say: Callable[[str], None]) -> Built:
    """Build DTM into ``folder``, unless that was done before; raises Unbuilt."""
    if shutil.which("go") is None:
        raise Unbuilt("there is no Go toolchain to build it with")
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "dtm"
    if not binary.exists():
        say("building DTM, which takes some minutes the first time")
    # Go builds nothing that is up to date, so that it can be asked every time.
    _go("build", "-trimpath", "-buildvcs=false", "-o", str(binary), MODULE)
    directory, version = _go("list", "-m", "-f", "{{.Dir}} {{.Version}}", MODULE).split()
    return Built(binary, Path(directory) / "sqls", version)


def _go(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["go", *arguments],
            cwd=HERE,
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        ).stdout
    except subprocess.CalledProcessError as failure:
        raise Unbuilt(f"go {arguments[0]} has failed: {failure.stderr.strip()[-500:]}") from None
    except subprocess.TimeoutExpired:
        raise Unbuilt(f"go {arguments[0]} took longer than {BUILD_SECONDS} s") from None


@dataclass
class DtmServer(Program):
    """The process of DTM itself."""

    built: Built | None = None
    dsn: str = ""
    path: str = "/api/ping"

    def command(self) -> list[str]:
        """Return how it is started."""
        assert self.built
        return [str(self.built.binary)]

    def settings(self) -> Mapping[str, str]:
        """Return its settings; the port of its gRPC, which nobody uses here, is any."""
        database = parse_dsn(self.dsn)
        store = {
            "DRIVER": "postgres",
            "HOST": database["host"],
            "PORT": database["port"],
            "USER": database["user"],
            "PASSWORD": database["password"],
            "DB": database["dbname"],
            "SCHEMA": SCHEMA,
            "MAX_OPEN_CONNS": str(CONNECTIONS),
            "MAX_IDLE_CONNS": str(CONNECTIONS),
        }
        return {
            **{f"STORE_{name}": value for name, value in store.items()},
            "HTTP_PORT": str(self.port),
            "GRPC_PORT": "0",
            "LOG_LEVEL": "warn",
        }

    def requests(self, file: Path) -> int:
        """Return how many requests it has answered, by its own metrics; ``file`` is not needed."""
        del file
        page = httpx.get(f"http://{LOOPBACK}:{self.port}/api/metrics").text
        counted = re.findall(
            r'^dtm_server_process_total\{api="(\w+)".*\} (\S+)$', page, re.MULTILINE
        )
        return sum(
            int(float(count))
            for api, count in counted
            if api in ("prepare", "registerbranch", "submit", "abort")
        )


def system(built: Built, server: Server, folder: Path) -> Comparison:
    """Return DTM with its order endpoint and its three participants, after making their tables."""
    server.run(f"DROP SCHEMA IF EXISTS {SCHEMA}, dtm_barrier CASCADE; CREATE SCHEMA {SCHEMA}")
    for script in ("dtmsvr.storage.postgres.sql", "dtmcli.barrier.postgres.sql"):
        server.run(
            f"SET search_path = {SCHEMA}; {(built.scripts / script).read_text()}; RESET search_path"
        )
    server.run((HERE / "dtm_tables.sql").read_text())
    programs = [
        Program("app", "peers.dtm_order"),
        DtmServer("dtm", MODULE, built=built, dsn=server.dsn),
        *(Program(each, "peers.dtm_participant", {"PARTICIPANT": each}) for each in PARTICIPANTS),
    ]
    finished = f"{SCHEMA}.trans_global WHERE status = 'succeed'"
    return Comparison(
        NAME, programs, server.dsn, finished, clients=CLIENTS, folder=folder
    ).counting_on(server)
