"""PARTICIPANTS: whom the coordinator asks, in one setting; and the names that it had before."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from order_service.main import create_service
from order_service.settings import OrderSettings
from service_chassis.settings import told

KEY = "k" * 40
PEER = {"urls": "http://127.0.0.1:8001", "key": KEY}
BEFORE = ("PAYMENT", "STOCK", "DELIVERY")


@pytest.fixture(autouse=True)
def _no_participants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what else has to be set."""
    for name in ("SECRETS_DIR", "PARTICIPANTS", *(f"{each}_URLS" for each in BEFORE)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg2://role@127.0.0.1:5432/shop")


def _set_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BEFORE:
        monkeypatch.setenv(f"{name}_URLS", f"http://{name.lower()}:8001")
        monkeypatch.setenv(f"{name}_KEY", f"{name}{KEY}")


def test_key_comes_from_the_setting_or_from_a_mounted_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One setting for any number of participants, in the order in which it names them."""
    (tmp_path / "stock-key").write_text(f"from a file {KEY}\n")
    stock = {"urls": ["http://a:1", "http://b:2"], "key_file": str(tmp_path / "stock-key")}
    monkeypatch.setenv("PARTICIPANTS", json.dumps({"stock": stock, "loyalty_2": PEER}))

    settings = OrderSettings.load()

    assert list(settings.participants) == ["stock", "loyalty_2"]
    assert settings.participants["stock"].urls == ("http://a:1", "http://b:2")
    assert settings.participants["stock"].key.get_secret_value() == f"from a file {KEY}"
    assert settings.participants["loyalty_2"].urls == ("http://127.0.0.1:8001",)
    assert settings.remarks == ()
    assert KEY not in repr(settings)


def test_all_of_it_may_be_a_mounted_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A setting is found in the folder of secrets like any other."""
    (tmp_path / "participants").write_text(json.dumps({"payment": PEER}))
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))

    assert list(OrderSettings.load().participants) == ["payment"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", 'PARTICIPANTS: is no JSON object such as {"payment": {"urls":'),
        ("payment=http://a", "PARTICIPANTS: is no JSON object such as"),
        ("{'payment': 1}", "PARTICIPANTS: is no JSON object such as"),
        ("[]", "PARTICIPANTS: Input should be a valid dictionary"),
        ("{}", "PARTICIPANTS: names no participant"),
        ('{"payment": {}, "payment": {}}', "PARTICIPANTS: payment stands there twice"),
        ({"payment": "hunter2"}, "PARTICIPANTS_PAYMENT: Input should be"),
        ({"Payment": PEER}, "PARTICIPANTS: a participant's name has small letters"),
        ({"log": PEER}, "PARTICIPANTS: a participant's name has small letters"),
        ({"payment": {"key": KEY}}, "PARTICIPANTS_PAYMENT_URLS: Field required"),
        ({"payment": {"urls": "http://a:1"}}, "PARTICIPANTS_PAYMENT_KEY: Field required"),
        ({"payment": {**PEER, "urls": []}}, "PARTICIPANTS_PAYMENT_URLS: "),
        ({"payment": {**PEER, "urls": "a:1"}}, "PARTICIPANTS_PAYMENT_URLS: must be base URLs"),
        ({"payment": {**PEER, "key": "hunter2"}}, "PARTICIPANTS_PAYMENT_KEY: a key has at least"),
        ({"payment": {**PEER, "key_file": "/x"}}, "PARTICIPANTS_PAYMENT: has both key and"),
        (
            {"payment": {"urls": "http://a:1", "key_file": "hunter2"}},
            "PARTICIPANTS_PAYMENT: key_file names no file that can be read",
        ),
        (
            {"payment": {"urls": "http://a:1", "key_file": 1}},
            "PARTICIPANTS_PAYMENT: key_file names no file that can be read",
        ),
        ({"payment": {**PEER, "url": "http://a:1"}}, "PARTICIPANTS_PAYMENT_URL: Extra inputs"),
    ],
)
def test_wrong_form_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, given: Any, said: str
) -> None:
    """A line that says where, and nothing of what was given, which may be a secret."""
    monkeypatch.setenv("PARTICIPANTS", given if isinstance(given, str) else json.dumps(given))

    with pytest.raises(ValidationError) as refused:
        OrderSettings.load()

    assert told(refused.value).startswith(said)
    assert "\n" not in told(refused.value)
    assert "hunter2" not in told(refused.value)


def test_names_of_before_are_taken_with_a_remark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An older deployment starts this release, and hears that it should be changed."""
    _set_as_before(monkeypatch)
    monkeypatch.delenv("STOCK_KEY")
    (tmp_path / "stock_key").write_text(f"{KEY}\n")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))

    settings = OrderSettings.load()

    assert {name: each.urls for name, each in settings.participants.items()} == {
        name: (f"http://{name}:8001",) for name in ("payment", "stock", "delivery")
    }
    assert settings.participants["stock"].key.get_secret_value() == KEY
    assert settings.participants["payment"].key.get_secret_value() == f"PAYMENT{KEY}"
    assert "PARTICIPANTS is not set" in settings.remarks[0]
    assert create_service(settings).remarks == settings.remarks


def test_new_setting_goes_before_the_names_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of an older deployment is not even looked at."""
    _set_as_before(monkeypatch)
    monkeypatch.setenv("PAYMENT_URLS", "nonsense")
    monkeypatch.setenv("PARTICIPANTS", json.dumps({"payment": PEER}))

    settings = OrderSettings.load()

    assert list(settings.participants) == ["payment"]
    assert settings.remarks == ()


def test_name_of_before_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an older deployment is none."""
    _set_as_before(monkeypatch)
    monkeypatch.delenv("DELIVERY_KEY")

    with pytest.raises(SettingsError, match="DELIVERY_KEY: is missing"):
        OrderSettings.load()


def test_without_any_the_setting_is_asked_for() -> None:
    """A service without participants does not start."""
    with pytest.raises(ValidationError) as refused:
        OrderSettings.load()

    assert told(refused.value) == "PARTICIPANTS: Field required"
