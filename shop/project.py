"""Where the project's files are, and the failure that ends a command with a sentence."""

from pathlib import Path

#: The folder that has the services, their migrations and config/.
ROOT = Path(__file__).parents[1]


def project_file(name: str) -> Path:
    """Return a file of the project that is not code: where an installed shop has it, or in the checkout."""
    installed = Path(__file__).parent / name
    return installed if installed.exists() else ROOT / name


class CannotRun(Exception):
    """The shop cannot run as it was asked to; the message tells a person why, and what to do."""
