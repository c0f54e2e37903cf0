"""What a service refuses to be started with, in a sentence that names the setting and shows no value."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from order_service.settings import OrderSettings
from service_chassis.settings import ParticipantSettings, told

RIGHT = {
    "DATABASE_URL": "postgresql+psycopg2://role:hunter2@127.0.0.1:5432/shop",
    "ORDER_URLS": "http://127.0.0.1:8001, http://[::1]:8002/",
    "ORDER_KEY": "k" * 32,
    "PARTICIPANTS": '{"payment": {"urls": "http://127.0.0.1:8001", "key": "%s"}}' % ("k" * 32),
}


@pytest.fixture(autouse=True)
def _right_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set everything that has to be set."""
    monkeypatch.delenv("SECRETS_DIR", raising=False)
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("settings", [OrderSettings, ParticipantSettings])
@pytest.mark.parametrize(
    ("given", "taken"),
    [("debug", "DEBUG"), ("Warning", "WARNING"), ("INFO", "INFO"), (" error ", "ERROR")],
)
def test_log_level_is_taken_in_any_case(
    monkeypatch: pytest.MonkeyPatch,
    settings: type[OrderSettings | ParticipantSettings],
    given: str,
    taken: str,
) -> None:
    """The rest of the world writes it in small letters as often."""
    monkeypatch.setenv("LOG_LEVEL", given)
    monkeypatch.setenv("LOG_FORMAT", "JSON")

    assert settings.load().log_level == taken
    assert settings.load().log_format == "json"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("LOG_FORMAT", "pretty", "LOG_FORMAT: Input should be 'json' or 'console'"),
        ("HOST", "no host at all", "HOST: is neither an address nor a name of this machine"),
        ("PUBLIC_PORT", "70000", "PUBLIC_PORT: Input should be less than or equal to 65535"),
        ("PUBLIC_PORT", "8001", "settings: PUBLIC_PORT and INTERNAL_PORT must differ"),
        ("KEEP_ALIVE_SECONDS", "30", "KEEP_ALIVE_SECONDS: must be above 30: clients of ours keep"),
        ("KEEP_ALIVE_SECONDS", "0", "KEEP_ALIVE_SECONDS: must be above 30: clients of ours keep"),
        ("DRAIN_WAIT_SECONDS", "inf", "DRAIN_WAIT_SECONDS: Input should be"),
        ("IN_DOUBT_AFTER_SECONDS", "nan", "IN_DOUBT_AFTER_SECONDS: Input should be"),
        ("SWEEP_INTERVAL_SECONDS", "0", "SWEEP_INTERVAL_SECONDS: Input should be greater than 0"),
        ("ORDER_URLS", " , ", "ORDER_URLS: "),
        ("ORDER_URLS", "order-service:8001", "ORDER_URLS: must be base URLs"),
        ("ORDER_URLS", "http://order-service:port", "ORDER_URLS: must be base URLs"),
        ("ORDER_URLS", "http://order-service:8001,ftp://x", "ORDER_URLS: must be base URLs"),
        ("ORDER_KEY", "hunter2", "ORDER_KEY: a key has at least 32 characters"),
        ("DATABASE_URL", "hunter2", "DATABASE_URL: is not a database URL"),
        (
            "DATABASE_URL",
            "postgresql+psycopg2://u:hunter2@h:port/x",
            "DATABASE_URL: is not a database URL",
        ),
        (
            "DATABASE_URL",
            "postgresql+psycopg2://u:hunter2@h:0/x",
            "DATABASE_URL: has a port that is none",
        ),
        (
            "DATABASE_URL",
            "postgresql+psycopg2://u:hunter2@h/x?hunter2=1",
            "DATABASE_URL: has a parameter",
        ),
        (
            "DATABASE_URL",
            "mysql://u:hunter2@h/x",
            "DATABASE_URL: must begin with postgresql+psycopg2://",
        ),
    ],
)
def test_wrong_setting_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """A line for it, and nothing of what was given, which may be a secret."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError) as refused:
        ParticipantSettings.load()

    assert told(refused.value).startswith(said)
    assert "\n" not in told(refused.value)
    assert "hunter2" not in told(refused.value)


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_folder_of_secrets_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    """A volume that was not mounted is not passed over."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / folder))

    with pytest.raises(SettingsError, match="SECRETS_DIR: there is no folder"):
        ParticipantSettings.load()
