"""The enabled channels, and what each is to deliver: this run's alerts after those that it could not deliver before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flywheel.base.retry import DeliveryError, Patience
from flywheel.ops.alerts import EmailChannel, FileChannel, LogChannel
from flywheel.ops.findings import severity
from flywheel.ops.webhooks import SlackChannel, WebhookChannel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.findings import Alert


class Channel(Protocol):
    """A way out for alerts."""

    @property
    def name(self) -> str:
        """Which way it is."""

    @property
    def min_level(self) -> str:
        """The least level that it is told."""

    @property
    def grouped(self) -> bool:
        """Does one message take all alerts of a run?"""

    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver the alerts; DeliveryError when that failed, with a message that holds no secret."""


def open_channels(config: MonitoringConfig, folder: Path) -> list[Channel]:
    """The channels that the configuration enables, the cheapest and surest first."""
    patience = Patience(config.channel_timeout_seconds, config.channel_attempts, config.channel_backoff_seconds)
    channels: list[Channel] = []
    if config.log_alerts_enabled:
        channels.append(LogChannel(config.log_min_level))
    if config.file_alerts_enabled:
        channels.append(FileChannel(config.file_min_level, folder))
    if config.email_enabled:
        channels.append(EmailChannel(config.email_min_level, config, patience))
    if config.slack_enabled and config.slack_webhook_url is not None:
        channels.append(SlackChannel(config.slack_min_level, config.slack_webhook_url, patience))
    if config.webhook_enabled and config.webhook_url is not None:
        url, token = config.webhook_url, config.webhook_token
        channels.append(WebhookChannel(config.webhook_min_level, url, token, patience))
    return channels


def enqueue(
    pending: dict[str, list[Alert]], alerts: Sequence[Alert], channels: Sequence[Channel]
) -> dict[str, list[Alert]]:
    """What each enabled channel has to deliver, oldest first; what waits for a disabled channel is dropped."""
    return {
        channel.name: pending.get(channel.name, [])
        + [alert for alert in alerts if severity(alert.route_level) >= severity(channel.min_level)]
        for channel in channels
    }


def deliver(pending: dict[str, list[Alert]], channels: Sequence[Channel]) -> dict[str, str]:
    """Send everything pending and take it off the lists; why each channel failed that did."""
    failures: dict[str, str] = {}
    for channel in channels:
        waiting = pending[channel.name]
        try:
            while waiting:
                batch = waiting[:] if channel.grouped else waiting[:1]
                channel.send(batch)
                del waiting[: len(batch)]
        except DeliveryError as error:
            failures[channel.name] = str(error)
    return failures
