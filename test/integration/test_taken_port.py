"""A port that another process has: the service says so in a sentence, and ends."""

import os
import subprocess
import sys

import pytest

from running_shop import ROOT
from shop.local.ports import LOOPBACK, Ports


@pytest.mark.parametrize(
    ("taken", "service"), [("PUBLIC_PORT", "order"), ("INTERNAL_PORT", "payment")]
)
def test_service_whose_port_is_taken_ends_with_a_sentence(taken: str, service: str) -> None:
    """The setting is named, and what is there already; nobody has to read a traceback for it."""
    peer = f'{{"urls": "http://{LOOPBACK}:9", "key": "{"k" * 40}"}}'
    with Ports() as ports:
        free, other = ports.reserve(), ports.reserve()
        listener = ports._holding[-1]
        listener.listen()
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LOG_FORMAT": "console",
            "HOST": LOOPBACK,
            "DATABASE_URL": f"postgresql+psycopg2://nobody@{LOOPBACK}:9/shop",
            "PARTICIPANTS": f'{{"payment": {peer}}}',
            "ORDER_URLS": f"http://{LOOPBACK}:9",
            "ORDER_KEY": "k" * 40,
            **dict.fromkeys(("PUBLIC_PORT", "INTERNAL_PORT"), str(free)),
        }
        ended = subprocess.run(
            [sys.executable, "-m", f"{service}_service"],
            env={**settings, taken: str(other)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    assert f"{taken}: cannot listen on {LOOPBACK}:{other}: Address already in use" in said
    assert "Traceback" not in said
    assert "never retrieved" not in said
