from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.base.errors import BadInputError
from flywheel.ops.config import MonitoringConfig, example, load_config

ROOT = Path(__file__).resolve().parents[2]
MAIL = {"email_enabled": True, "email_from": "a@example.com", "email_to": ["b@example.com"]}


def written(folder: Path, **values: Any) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_the_specs_configuration_is_accepted(tmp_path: Path) -> None:
    config = load_config(
        written(
            tmp_path,
            orchestration_failure_threshold=2,
            ab_test_rollback_alert=True,
            dataset_quality_drop_threshold=0.10,
            optimization_no_improvement_threshold=3,
            email_enabled=True,
            slack_enabled=True,
            file_alerts_enabled=True,
            email_smtp_server="smtp.gmail.com",
            email_smtp_port=587,
            email_from="dspy-monitoring@example.com",
            email_to=["team@example.com"],
            email_username="your-email@gmail.com",
            email_password="your-app-password",  # noqa: S106 - the spec's example
            slack_webhook_url="https://hooks.slack.com/services/YOUR/WEBHOOK/URL",
        )
    )
    assert config.security == "starttls"
    assert "your-app-password" not in repr(config)
    assert "WEBHOOK" not in str(config)


def test_flag_then_variable_then_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONITORING_CONFIG", raising=False)
    monkeypatch.setattr("flywheel.base.paths.PROJECT_ROOT", tmp_path)
    assert load_config(None) == MonitoringConfig()
    (tmp_path / "data_collection").mkdir()
    (tmp_path / "data_collection" / "monitoring_config.json").write_text('{"repeat_hours": 1}')
    assert load_config(None).repeat_hours == 1
    (tmp_path / "two.json").write_text('{"repeat_hours": 2}')
    monkeypatch.setenv("MONITORING_CONFIG", str(tmp_path / "two.json"))
    assert load_config(None).repeat_hours == 2
    assert load_config(written(tmp_path, repeat_hours=3)).repeat_hours == 3


def test_a_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITORING_CONFIG", str(tmp_path / "none.json"))
    with pytest.raises(BadInputError, match=r"none\.json"):
        load_config(None)


def test_the_example_has_every_key_and_can_be_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "monitoring_config.json.example"
    assert path.read_text() == example()
    assert json.loads(path.read_text()).keys() == MonitoringConfig.model_fields.keys()
    link = ROOT / "data_collection" / "monitoring_config.json.example"
    assert link.is_symlink()
    assert link.readlink() == Path("../monitoring_config.json.example")
    for name in ("SMTP_USERNAME", "SMTP_PASSWORD", "SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "ALERT_WEBHOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert load_config(str(link)).email_password is None


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"unknown key.*repeat_hour, slak_enabled"):
        load_config(written(tmp_path, slak_enabled=True, repeat_hour=1))


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, **MAIL, email_username="u", email_password="${A_PASSWORD}")  # noqa: S106 - a variable
    monkeypatch.setenv("A_PASSWORD", "hunter22")
    config = load_config(path)
    assert config.email_password is not None
    assert config.email_password.get_secret_value() == "hunter22"
    assert config.secret_values() == ["hunter22"]
    monkeypatch.delenv("A_PASSWORD")
    with pytest.raises(BadInputError, match="email_password: the environment has no A_PASSWORD"):
        load_config(path)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"repeat_hours": 0}, "repeat_hours"),
    ({"orchestration_failure_threshold": 0}, "orchestration_failure_threshold"),
    ({"dataset_quality_drop_threshold": 10}, "dataset_quality_drop_threshold"),
    ({"dataset_quality_drop_threshold": 0.5}, "must not be below"),
    ({"disk_usage_warning_percent": 99}, "must not be below"),
    ({"monthly_budget_usd": 0}, "monthly_budget_usd"),
    # Fewer figures can show no trend, and 999 permutations no smaller p-value.
    ({"trend_window": 4}, "trend_window"),
    ({"drift_alpha": 0.001}, "drift_alpha"),
    ({"canary_max_age_days": 0}, "canary_max_age_days"),
    ({"variant_error_rate_threshold": 10}, "variant_error_rate_threshold"),
    ({"email_enabled": "perhaps"}, "email_enabled"),
    ({"email_enabled": True}, "email_from is needed"),
    ({**MAIL, "email_to": []}, "email_to is needed"),
    ({**MAIL, "email_to": ["b@example.com\nBcc: c@example.com"]}, "not an address"),
    ({**MAIL, "email_username": "u"}, "belong together"),
    ({**MAIL, "email_username": "u", "email_password": "hunter22", "email_security": "none"}, "in the clear"),
    ({"slack_enabled": True}, "slack_webhook_url must be"),
    ({"slack_enabled": True, "slack_webhook_url": "http://hooks.slack.com/services/hunter22"}, "must be https"),
    ({"webhook_enabled": True, "webhook_url": "ftp://example.com/hunter22"}, "webhook_url must be"),
    ({"webhook_enabled": True, "webhook_url": "http://h.example", "webhook_token": "hunter22"}, "must be https"),
    ({"email_password": ["hunter22"]}, "email_password"),
    ({"slack_min_level": "hunter22"}, "slack_min_level"),
]


@pytest.mark.parametrize(("values", "told"), BAD, ids=[f"{told}-{number}" for number, (_, told) in enumerate(BAD)])
def test_what_cannot_be_used_is_named_without_its_value(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told) as caught:
        load_config(written(tmp_path, **values))
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"config\.json"):
        load_config(str(path))
