"""Alert channels over HTTP: Slack and any other endpoint. Their URLs are secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flywheel.base.http import post_json
from flywheel.base.text import one_line
from flywheel.ops.findings import subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from flywheel.base.retry import Patience
    from flywheel.ops.findings import Alert

COLOURS = {"info": "#2f81c4", "warning": "#e0a100", "error": "#d93025", "critical": "#7b0010"}
RESOLVED_COLOUR = "#2e9e5b"
MOST_ATTACHMENTS = 20


@dataclass(frozen=True)
class SlackChannel:
    """A Slack incoming webhook; one message a run, one coloured attachment an alert."""

    min_level: str
    url: SecretStr
    patience: Patience
    name: str = "slack"
    grouped: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        """See Channel."""
        post_json(self.url.get_secret_value(), slack_message(alerts), {}, self.patience)


def slack_message(alerts: Sequence[Alert]) -> dict[str, object]:
    """The body for Slack; no text in it can mention anybody, link, or format."""
    shown = [_attachment(alert) for alert in alerts[:MOST_ATTACHMENTS]]
    left = len(alerts) - len(shown)
    return {"text": _slack(subject(alerts)) + (f" ({left} not shown)" if left else ""), "attachments": shown}


def _attachment(alert: Alert) -> dict[str, object]:
    ended = "resolved" in alert.details
    return {
        "color": RESOLVED_COLOUR if ended else COLOURS[alert.level],
        "fallback": _slack(f"{alert.level}: {alert.title}"),
        "title": _slack(alert.title),
        "text": _slack(alert.message),
        "fields": [
            {"title": _slack(key), "value": _slack(str(value)), "short": len(str(value)) < 40}
            for key, value in alert.details.items()
        ],
        "mrkdwn_in": [],
        "ts": int(datetime.fromisoformat(alert.timestamp).timestamp()),
    }


def _slack(text: str) -> str:
    """Slack's three control characters escaped: `<!channel>`, `<@U1>` and `<url|text>` stay what was written."""
    return one_line(text, 1_000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class WebhookChannel:
    """Any HTTP endpoint: one POST a run, {"alerts": [...]}, with a bearer token where one is configured."""

    min_level: str
    url: SecretStr
    token: SecretStr | None
    patience: Patience
    name: str = "webhook"
    grouped: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        """See Channel."""
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token is not None else {}
        post_json(self.url.get_secret_value(), {"alerts": [a.to_dict() for a in alerts]}, headers, self.patience)
