"""Named points at which a test may kill the process: the protocol survives a crash right there.

Inert unless ``CRASH_POINTS_DIR`` names a folder when the process starts. A test then arms a point
by creating the file ``POINT.PID``; when that process reaches the point it removes the file and dies
by SIGKILL, or by the signal whose number the file holds (SIGSTOP, to fall asleep right there). A
file that is gone proves that the point was reached, and the process that is started instead has
another pid and does not die again.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

COORDINATOR_POINTS = (
    "claim_durable",
    "prepares_not_left",
    "first_votes_in",
    "all_votes_in",
    "decision_durable",
    "first_decision_delivered",
    "outcomes_durable",
)
PARTICIPANT_POINTS = (
    "prepare_not_durable",
    "prepare_durable",
    "decision_not_durable",
    "decision_durable",
    "recovery_not_asked",
    "recovery_answered",
)


def _die_when_armed(folder: Path) -> Callable[[str], None]:
    def _reached(name: str) -> None:
        armed = folder / f"{name}.{os.getpid()}"
        try:
            number = int(armed.read_text() or signal.SIGKILL)
            armed.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), number)

    return _reached


def _stay_alive(_name: str) -> None:
    return None


_folder = os.environ.get("CRASH_POINTS_DIR")

#: What happens at a crash point. The simulation replaces it by the death of a simulated process.
on_reach: Callable[[str], None] = _die_when_armed(Path(_folder)) if _folder else _stay_alive


def reach(name: str) -> None:
    """Die here if a test asked for it; ``name`` is one of the points listed above."""
    on_reach(name)
