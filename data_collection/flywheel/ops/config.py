"""monitoring_config.json: which channels, which thresholds. Unknown keys are named, secrets may be `${VARIABLE}`."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from flywheel.base.errors import BadInputError
from flywheel.base.files import parse_json, read_text
from flywheel.base.paths import MONITORING_CONFIG

if TYPE_CHECKING:
    from pathlib import Path

Level = Literal["info", "warning", "error", "critical"]
SECRETS = ("email_username", "email_password", "slack_webhook_url", "webhook_url", "webhook_token")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ADDRESS = re.compile(r"[^\s@<>,]+@[^\s@<>,]+")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class MonitoringConfig(BaseModel):
    """Thresholds and channels. Shares are 0-1, percentages 0-100, money US dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    orchestration_failure_threshold: int = Field(2, ge=1)
    optimization_no_improvement_threshold: float = Field(3, gt=0, le=1200, description="months")
    cycle_interval_days: float = Field(31, gt=0, le=36_500)
    cycle_grace_hours: float = Field(24, ge=0, le=100_000)
    run_stalled_hours: float = Field(24, gt=0, le=100_000)
    ab_test_rollback_alert: bool = True
    ab_test_long_running_days: float = Field(7, gt=0, le=36_500)
    dataset_quality_drop_threshold: float = Field(0.10, gt=0, lt=1)
    dataset_quality_drop_error_threshold: float = Field(0.25, gt=0, lt=1)
    dataset_quality_trend_threshold: float = Field(0.05, ge=0, lt=1)
    dataset_no_growth_days: float = Field(62, gt=0, le=36_500)
    dataset_max_source_share: float = Field(0.80, gt=0, le=1)
    trend_window: int = Field(8, ge=5, le=24)
    trend_alpha: float = Field(0.02, gt=0, lt=0.5)
    drift_psi_threshold: float = Field(0.25, gt=0, le=100)
    drift_alpha: float = Field(0.01, ge=0.005, lt=0.5)
    drift_window_days: float = Field(7, gt=0, le=36_500)
    canary_alpha: float = Field(0.01, gt=0, lt=0.5)
    canary_min_drop: float = Field(0.05, ge=0, lt=1, description="points of a score 0-1")
    canary_max_age_days: float = Field(8, gt=0, le=36_500)
    variant_min_calls: int = Field(200, ge=20)
    variant_error_rate_threshold: float = Field(0.10, gt=0, le=1)
    variant_latency_p95_ms: float | None = Field(None, gt=0)
    variant_latency_p95_ratio: float = Field(2, gt=1, le=1000)
    monthly_budget_usd: float | None = Field(None, gt=0)
    disk_usage_warning_percent: float = Field(90, gt=0, le=100)
    disk_usage_critical_percent: float = Field(97, gt=0, le=100)
    event_days: float = Field(7, gt=0, le=36_500)
    repeat_hours: float = Field(24, gt=0, le=100_000)

    channel_timeout_seconds: float = Field(10, gt=0, le=120)
    channel_attempts: int = Field(3, ge=1, le=10)
    channel_backoff_seconds: float = Field(1, ge=0, le=60)
    channel_silent_hours: float = Field(6, gt=0, le=100_000)

    email_enabled: bool = False
    email_min_level: Level = "warning"
    email_smtp_server: str = "localhost"
    email_smtp_port: int = Field(587, ge=1, le=65535)
    email_security: Literal["auto", "starttls", "ssl", "none"] = "auto"
    email_ca_file: str | None = None
    email_from: str = ""
    email_to: list[str] = []
    email_username: SecretStr | None = None
    email_password: SecretStr | None = None

    slack_enabled: bool = False
    slack_min_level: Level = "warning"
    slack_webhook_url: SecretStr | None = None

    webhook_enabled: bool = False
    webhook_min_level: Level = "info"
    webhook_url: SecretStr | None = None
    webhook_token: SecretStr | None = None

    file_alerts_enabled: bool = True
    file_min_level: Level = "info"
    log_alerts_enabled: bool = True
    log_min_level: Level = "info"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require(
            self.dataset_quality_drop_error_threshold >= self.dataset_quality_drop_threshold,
            "dataset_quality_drop_error_threshold must not be below dataset_quality_drop_threshold",
        )
        _require(
            self.disk_usage_critical_percent >= self.disk_usage_warning_percent,
            "disk_usage_critical_percent must not be below disk_usage_warning_percent",
        )
        if self.email_enabled:
            self._check_email()
        if self.slack_enabled:
            _check_url("slack_webhook_url", self.slack_webhook_url, secret=True)
        if self.webhook_enabled:
            _check_url("webhook_url", self.webhook_url, secret=self.webhook_token is not None)
        return self

    def _check_email(self) -> None:
        _require(bool(self.email_from), "email_from is needed for email_enabled")
        _require(bool(self.email_to), "email_to is needed for email_enabled")
        addresses = (self.email_from, *self.email_to)
        _require(all(_ADDRESS.fullmatch(address) for address in addresses), "email_from or email_to: not an address")
        both = (self.email_username is None) == (self.email_password is None)
        _require(both, "email_username and email_password belong together")
        plain = self.security == "none" and self.email_username is not None
        _require(not plain, "email_security none would send the password in the clear")

    @property
    def security(self) -> str:
        """How the connection is secured: `ssl` from the start (the custom of port 465), `starttls`, or `none`."""
        if self.email_security != "auto":
            return self.email_security
        return "ssl" if self.email_smtp_port == 465 else "starttls"

    def secret_values(self) -> list[str]:
        """Every secret in the configuration, longest first, to be kept out of all texts."""
        values = (getattr(self, name) for name in SECRETS if name != "email_username")
        return sorted((value.get_secret_value() for value in values if value is not None), key=len, reverse=True)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - an assertion reads best so
    if not holds:
        raise ValueError(message)


def _check_url(key: str, url: SecretStr | None, *, secret: bool) -> None:
    parts = urlsplit(url.get_secret_value()) if url is not None else urlsplit("")
    _require(parts.scheme in {"http", "https"} and bool(parts.hostname), f"{key} must be an http(s) URL")
    clear = parts.scheme == "http" and parts.hostname not in LOOPBACK
    _require(not (secret and clear), f"{key} must be https: what it carries is secret")


def load_config(flag: str | None) -> MonitoringConfig:
    """The configuration in --config, else in MONITORING_CONFIG, else in the default file, else the defaults.

    Raises:
        BadInputError: a file that was named does not exist, or what it says cannot be used.
    """
    path = MONITORING_CONFIG.resolve(flag)
    if flag is None and not os.environ.get(MONITORING_CONFIG.variable) and not path.is_file():
        return MonitoringConfig()
    value = parse_json(read_text(path), str(path), "a monitoring configuration")
    if not isinstance(value, dict):
        msg = f"{path}: expected a JSON object, found {type(value).__name__}"
        raise BadInputError(msg)
    return _validated(value, path)


def _validated(value: dict[str, Any], path: Path) -> MonitoringConfig:
    unknown = sorted(value.keys() - MonitoringConfig.model_fields.keys())
    if unknown:
        msg = f"{path}: unknown key(s): {', '.join(unknown)}; monitoring_config.json.example shows all"
        raise BadInputError(msg)
    try:
        return MonitoringConfig.model_validate(_with_environment(value, path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{path}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        # The chained error would show the input, which may be a secret.
        raise BadInputError(msg) from None


def _with_environment(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """`${NAME}` in secrets replaced by the environment's; what an enabled channel needs must be set."""
    filled = dict(value)
    for key in SECRETS:
        text = value.get(key)
        if not isinstance(text, str):
            continue
        missing = [name for name in _VARIABLE.findall(text) if not os.environ.get(name)]
        if missing and value.get(f"{key.partition('_')[0]}_enabled"):
            msg = f"{path}: {key}: the environment has no {', '.join(missing)}"
            raise BadInputError(msg)
        filled[key] = None if missing or not text else _VARIABLE.sub(lambda match: os.environ[match[1]], text)
    return filled


def example() -> str:
    """monitoring_config.json.example: every key with its default, and how secrets are named."""
    values = MonitoringConfig().model_dump(mode="json")
    values.update(
        email_smtp_server="smtp.gmail.com",
        email_from="dspy-monitoring@example.com",
        email_to=["team@example.com"],
        email_username="${SMTP_USERNAME}",
        email_password="${SMTP_PASSWORD}",  # noqa: S106 - the name of a variable
        slack_webhook_url="${SLACK_WEBHOOK_URL}",
        webhook_url="${ALERT_WEBHOOK_URL}",
        webhook_token="${ALERT_WEBHOOK_TOKEN}",  # noqa: S106 - the name of a variable
    )
    return json.dumps(values, indent=2) + "\n"
