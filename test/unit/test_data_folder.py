"""What a local run keeps: secrets that only their owner can read and that stay, and one run at a time."""

import os
from pathlib import Path

import pytest

from shop.local.data_folder import DataFolder
from shop.project import CannotRun


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """Return a prepared folder."""
    made = DataFolder(tmp_path / "data")
    made.prepare()
    return made


def test_secrets_are_made_once_and_only_their_owner_can_read_them(folder: DataFolder) -> None:
    """Data that is kept must stay readable, so its passwords stay.

    Nobody else on the machine learns them.
    """
    before = os.umask(0)
    try:
        first = folder.secrets()
    finally:
        os.umask(before)

    assert folder.secrets() == first
    assert (folder.root / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert min(len(value) for name, value in first.items() if name != "database_suffix") >= 32
    assert len(set(first.values())) == len(first)


def test_secret_that_is_missing_is_added_and_the_others_stay(folder: DataFolder) -> None:
    """A newer version may need one more key.

    It must not cost the passwords of the data that is there.
    """
    (folder.root / "secrets.json").write_text('{"postgres": "kept"}')

    secrets = folder.secrets()

    assert secrets["postgres"] == "kept"
    assert secrets["payment_key"]


def test_second_run_on_one_folder_is_refused(folder: DataFolder) -> None:
    """Two runs would hand each other's processes out as their own."""
    with (
        folder.locked(),
        pytest.raises(CannotRun, match=rf"already runs .*pid {os.getpid()}"),
        DataFolder(folder.root).locked(),
    ):
        pytest.fail("both have it")
    with folder.locked():
        pass


def test_pid_files_of_an_earlier_run_are_forgotten(folder: DataFolder) -> None:
    """A machine that lost power leaves pid files of processes that are somebody else's by now."""
    folder.write_pid("order", 1)
    folder.log("order").write_text("what happened before")

    with folder.locked():
        assert not list(folder.run.glob("*.pid"))
        assert (folder.logs / "order.log.previous").read_text() == "what happened before"


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The user hears which folder, and why, instead of a traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(CannotRun, match=f"SHOP_DATA is {tmp_path}/file/data"):
        DataFolder(tmp_path / "file" / "data").prepare()
