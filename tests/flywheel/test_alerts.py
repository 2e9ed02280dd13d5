from __future__ import annotations

import email
import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.mailroom import Answer, Letters, http_server, silent_server, smtp_server
from tests.monitored import NOW

from flywheel.base.clock import iso
from flywheel.base.http import post_json, seconds_asked
from flywheel.base.retry import DeliveryError, Patience, TransientError
from flywheel.ops.alerts import EmailChannel, FileChannel, LogChannel
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.delivery import deliver, enqueue, open_channels
from flywheel.ops.findings import LEVELS, Alert, Finding
from flywheel.ops.incidents import Incident, Scope, plan
from flywheel.ops.scrub import Scrubber
from flywheel.ops.webhooks import slack_message

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

HOUR = timedelta(hours=1)
EVERYTHING = Scope(frozenset({"orchestration", "ab_tests", "datasets", "system"}))


def finding(check: str = "stale", subject: str = "", level: str = "warning", *, event: bool = False) -> Finding:
    return Finding("orchestration", check, subject, level, "Title", "Message", NOW, "do it", {"n": 1}, event=event)


def alert(level: str = "error", **changes: Any) -> Alert:
    base = Alert(level, "Orchestration Run Failures", "Failed 2 times", iso(NOW), {"run_id": "r", "n": 2}, level)
    return replace(base, **changes)


class Pauses:
    """Stands where time.sleep would, and keeps what was asked for."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


def patience(attempts: int = 3, timeout: float = 5.0) -> tuple[Patience, list[float]]:
    pauses = Pauses()
    return Patience(timeout, attempts, 1.0, sleep=pauses), pauses.taken


# What is told, and when


@pytest.mark.parametrize("repeat", [1, 2, 8, 24, 168])
def test_a_week_of_one_fault_is_told_at_its_start_and_at_every_repeat_and_once_when_it_is_over(repeat: int) -> None:
    known: dict[str, Incident] = {}
    told: list[Alert] = []
    # Found at hour 0, still there at the 168 hourly looks that follow, whose minute wanders as cron's does.
    for hour in range(169):
        moment = NOW + hour * HOUR + timedelta(seconds=(hour * 37) % 50)
        known, alerts = plan(known, [finding()], EVERYTHING, moment, repeat * HOUR)
        told += alerts
    assert len(told) == 1 + math.ceil(168 / repeat)
    known, ended = plan(known, [], EVERYTHING, NOW + 169 * HOUR, repeat * HOUR)
    assert [(a.level, a.title, a.route_level) for a in ended] == [("info", "Resolved: Title", "warning")]
    assert plan(known, [], EVERYTHING, NOW + 170 * HOUR, repeat * HOUR) == ({}, [])


def test_what_gets_worse_is_told_at_once_and_what_gets_better_is_not() -> None:
    known, _ = plan({}, [finding(level="warning")], EVERYTHING, NOW, 24 * HOUR)
    known, alerts = plan(known, [finding(level="error")], EVERYTHING, NOW + HOUR, 24 * HOUR)
    assert [a.level for a in alerts] == ["error"]
    for level in ("warning", "error", "warning"):
        known, alerts = plan(known, [finding(level=level)], EVERYTHING, NOW + 2 * HOUR, 24 * HOUR)
        assert alerts == []


def test_an_event_is_told_once_and_never_resolved() -> None:
    event = finding("rollback", "x", event=True)
    known, alerts = plan({}, [event], EVERYTHING, NOW, HOUR)
    assert len(alerts) == 1
    for hours in (1, 30, 100):
        known, alerts = plan(known, [event], EVERYTHING, NOW + hours * HOUR, HOUR)
        assert alerts == []
    assert plan(known, [], EVERYTHING, NOW + 200 * HOUR, HOUR) == ({}, [])


def test_a_rollback_silences_what_follows_from_it() -> None:
    open_now = [finding("long_running", "x"), finding("long_running", "y"), finding("variant_errors", "x/candidate")]
    known, _ = plan({}, open_now, EVERYTHING, NOW, HOUR)
    gone = [finding("rollback", "x", event=True)]
    _, alerts = plan(known, gone, EVERYTHING, NOW + HOUR / 2, HOUR)
    assert [(a.title, a.details.get("subject")) for a in alerts] == [("Title", None), ("Resolved: Title", "y")]


def test_what_was_not_looked_at_stays_as_it_was() -> None:
    known, _ = plan({}, [finding()], EVERYTHING, NOW, HOUR)
    assert plan(known, [], Scope(frozenset({"datasets"})), NOW + 9 * HOUR, HOUR) == (known, [])


def test_nothing_counts_as_resolved_where_a_file_cannot_be_read() -> None:
    known, _ = plan({}, [finding()], EVERYTHING, NOW, HOUR)
    blind = finding("unreadable", "/x", "critical")
    after, alerts = plan(known, [blind], EVERYTHING, NOW + HOUR, HOUR)
    assert [a.level for a in alerts] == ["critical"]
    assert len(after) == 2
    after, alerts = plan(after, [finding()], EVERYTHING, NOW + HOUR, 9 * HOUR)
    assert [a.title for a in alerts] == ["Resolved: Title"]


def test_a_clock_that_went_back_silences_nothing() -> None:
    known, _ = plan({}, [finding()], EVERYTHING, NOW, 24 * HOUR)
    _, alerts = plan(known, [finding()], EVERYTHING, NOW - 1000 * HOUR, 24 * HOUR)
    assert len(alerts) == 1


words = st.text(max_size=8)


@given(words, words, words, words)
def test_a_fingerprint_tells_apart_what_differs_and_nothing_else(a: str, b: str, c: str, d: str) -> None:
    same = finding(a, b).fingerprint == finding(c, d).fingerprint
    assert same == ((a, b) == (c, d))
    today = replace(finding(a, b), message="other", level="critical", facts={"n": 2}, since=NOW + HOUR)
    assert today.fingerprint == finding(a, b).fingerprint


looks = st.lists(st.tuples(st.booleans(), st.sampled_from(LEVELS), st.integers(1, 40)), max_size=30)


@settings(max_examples=200)
@given(looks)
def test_every_page_has_a_reason_and_every_end_is_told_once(looks: list[tuple[bool, str, int]]) -> None:
    known: dict[str, Incident] = {}
    moment, is_open, pages_since = NOW, False, None
    for there, level, hours in looks:
        moment += hours * HOUR
        known, alerts = plan(known, [finding(level=level)] if there else [], EVERYTHING, moment, 24 * HOUR)
        resolved = [a for a in alerts if a.title.startswith("Resolved")]
        pages = len(alerts) - len(resolved)
        assert len(resolved) == (is_open and not there)
        assert pages <= there
        if there and (not is_open or (pages_since is not None and moment - pages_since >= 24 * HOUR)):
            assert pages == 1
        is_open = there
        pages_since = moment if pages else pages_since


# Channels


def test_each_channel_gets_its_levels_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    with http_server(Answer(500), Answer(500), Answer(500)) as hook:
        config = MonitoringConfig(
            log_alerts_enabled=False,
            slack_enabled=True,
            slack_min_level="error",
            slack_webhook_url=SecretStr(hook.url),
            channel_backoff_seconds=0,
        )
        channels = open_channels(config, tmp_path / "alerts")
        pending = enqueue({}, [alert("warning"), alert("error")], channels)
        failures = deliver(pending, channels)
        assert failures == {"slack": "answered 500"}
        assert len(list((tmp_path / "alerts").glob("alert_*.json"))) == 2
        assert {name: len(waiting) for name, waiting in pending.items()} == {"file": 0, "slack": 1}
        # The next run: what waited goes out together with what is new, in one message.
        pending = enqueue(pending, [alert("critical")], channels)
        assert deliver(pending, channels) == {}
    assert len(hook.bodies) == 4
    assert [a["color"] for a in hook.bodies[-1]["attachments"]] == ["#d93025", "#7b0010"]


@pytest.mark.parametrize("failing", ["file", "slack", "webhook"])
def test_whichever_channel_fails_the_others_are_told(tmp_path: Path, failing: str) -> None:
    (tmp_path / "taken").touch()
    answers = {name: [Answer(404)] if failing == name else [] for name in ("slack", "webhook")}
    with http_server(*answers["slack"]) as slack, http_server(*answers["webhook"]) as webhook:
        config = MonitoringConfig(
            slack_enabled=True, slack_webhook_url=SecretStr(slack.url), webhook_enabled=True,
            webhook_url=SecretStr(webhook.url),
        )  # fmt: skip
        channels = open_channels(config, tmp_path / ("taken" if failing == "file" else "alerts"))
        pending = enqueue({}, [alert("error")], channels)
        assert deliver(pending, channels).keys() == {failing}
    assert {name for name, waiting in pending.items() if waiting} == {failing}


def test_a_file_an_alert_with_a_suffix_when_the_name_is_taken(tmp_path: Path) -> None:
    channel = FileChannel("info", tmp_path / "alerts")
    channel.send([alert(), alert(message="second")])
    channel.send([alert(message="third")])
    base = "alert_error_20251104_120000"
    names = [f"{base}.json", f"{base}_2.json", f"{base}_3.json"]
    assert sorted(p.name for p in (tmp_path / "alerts").iterdir()) == names
    first = json.loads((tmp_path / "alerts" / names[0]).read_text())
    assert list(first) == ["level", "title", "message", "timestamp", "details"]
    assert json.loads((tmp_path / "alerts" / names[2]).read_text())["message"] == "third"
    assert (tmp_path / "alerts" / names[0]).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alerts").symlink_to(tmp_path)
    with pytest.raises(DeliveryError, match="is a link"):
        FileChannel("info", tmp_path / "alerts").send([alert()])


def test_the_log_is_json_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    LogChannel("info").send([alert(), alert(message="a\nb")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["message"] for line in captured.err.splitlines()] == ["Failed 2 times", "a\nb"]


def test_slack_text_mentions_and_links_nothing() -> None:
    nasty = alert(title="<!channel> & <@U1>", message="<http://x|y>\n*b*", details={"<k>": "<!here>"})
    text = json.dumps(slack_message([nasty]))
    assert "<" not in text
    assert ">" not in text
    assert "&lt;!channel&gt; &amp; &lt;@U1&gt;" in text


@pytest.mark.parametrize(
    ("level", "colour"), [("info", "#2f81c4"), ("warning", "#e0a100"), ("error", "#d93025"), ("critical", "#7b0010")]
)
def test_slack_has_a_colour_a_level_and_one_for_what_is_over(level: str, colour: str) -> None:
    known, _ = plan({}, [finding(level=level)], EVERYTHING, NOW, HOUR)
    _, ended = plan(known, [], EVERYTHING, NOW + HOUR, HOUR)
    attachments = slack_message([alert(level), *ended])["attachments"]
    assert [shown["color"] for shown in attachments] == [colour, "#2e9e5b"]  # type: ignore[attr-defined]


def test_slack_is_told_that_not_all_is_shown() -> None:
    message = slack_message([alert()] * 50)
    assert len(message["attachments"]) == 20  # type: ignore[arg-type]
    assert "30 not shown" in str(message["text"])


# HTTP


def test_429_is_honoured_and_then_it_goes_through() -> None:
    settings_, taken = patience()
    with http_server(Answer(429, {"Retry-After": "7"}), Answer(503)) as hook:
        post_json(hook.url, {"a": 1}, {"Authorization": "Bearer t"}, settings_)
    assert taken == [7.0, 2.0]
    assert hook.bodies == [{"a": 1}] * 3
    assert hook.headers[-1]["Authorization"] == "Bearer t"


def test_a_pause_longer_than_our_patience_waits_for_the_next_run() -> None:
    settings_, taken = patience()
    with http_server(Answer(429, {"Retry-After": "3600"})) as hook, pytest.raises(TransientError, match="429"):
        post_json(hook.url, {}, {}, settings_)
    assert (len(hook.bodies), taken) == (1, [])


def test_a_password_that_is_meant_for_others_stays_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter22\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    settings_, _ = patience()
    with http_server() as hook:
        post_json(hook.url, {}, {}, settings_)
    assert "Authorization" not in hook.headers[0]


@pytest.mark.parametrize(("answer", "attempts"), [(Answer(500), 3), (Answer(404), 1), (Answer(403), 1)])
def test_only_what_may_pass_is_tried_again(answer: Answer, attempts: int) -> None:
    settings_, _ = patience()
    with http_server(answer, answer, answer) as hook, pytest.raises(DeliveryError, match=str(answer.status)) as caught:
        post_json(hook.url, {}, {}, settings_)
    assert len(hook.bodies) == attempts
    assert "slack-secret" not in str(caught.value)


def test_a_redirect_is_refused() -> None:
    settings_, _ = patience()
    with http_server() as elsewhere, http_server(Answer(307, {"Location": elsewhere.url})) as hook:
        with pytest.raises(DeliveryError, match="redirects are refused") as caught:
            post_json(hook.url, {}, {}, settings_)
        assert elsewhere.bodies == []
    assert elsewhere.url not in str(caught.value)


def test_a_server_that_hangs_is_given_up() -> None:
    settings_, taken = patience(attempts=2, timeout=0.2)
    with (
        http_server(Answer(0), Answer(0)) as hook,
        pytest.raises(TransientError, match="no answer") as caught,
    ):
        post_json(hook.url, {}, {}, settings_)
    assert taken == [1.0]
    assert "slack-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_there_is_given_up() -> None:
    settings_, _ = patience()
    with http_server() as hook:
        url = hook.url
    with pytest.raises(TransientError, match="no answer") as caught:
        post_json(url, {}, {}, settings_)
    assert "slack-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("5", 5.0), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("1.5", None)],
)
def test_retry_after_in_its_forms(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header) == seconds


# SMTP


def email_channel(letters: Letters | None = None, **changes: Any) -> tuple[EmailChannel, list[float]]:
    values: dict[str, Any] = {
        "email_enabled": True,
        "email_smtp_server": "127.0.0.1",
        "email_smtp_port": letters.port if letters is not None else 1,
        "email_ca_file": letters.ca_file if letters is not None else None,
        "email_from": "flywheel@example.com",
        "email_to": ["one@example.com", "two@example.com"],
        **changes,
    }
    settings_, taken = patience(timeout=5.0 if letters is not None else 0.2)
    return EmailChannel("info", MonitoringConfig.model_validate(values), settings_), taken


LOGIN = {"email_username": "flywheel", "email_password": "right password"}


def mail(letters: Letters) -> Message:
    (text,) = letters.texts
    return email.message_from_string(text)


def test_a_mail_goes_out_over_starttls_with_a_password(tmp_path: Path) -> None:
    with smtp_server(tmp_path, auth=True) as letters:
        channel, _ = email_channel(letters, **LOGIN)
        channel.send([alert("warning", title="One"), alert("critical", title="Two")])
    assert letters.secured == [True]
    sent = mail(letters)
    assert sent["Subject"] == "[CRITICAL] Two (and 1 more)"
    assert sent["To"] == "one@example.com, two@example.com"
    body = sent.get_payload()
    assert "WARNING: One" in body
    assert "run_id: r" in body
    assert "right password" not in letters.texts[0]


def test_a_mail_goes_out_over_tls_from_the_start(tmp_path: Path) -> None:
    with smtp_server(tmp_path, from_start=True) as letters:
        channel, _ = email_channel(letters, email_security="ssl")
        channel.send([alert("warning", title="One")])
        assert mail(letters)["Subject"] == "[WARNING] One"
        unknown, _ = email_channel(letters, email_security="ssl", email_ca_file=None)
        with pytest.raises(DeliveryError, match="cannot be secured"):
            unknown.send([alert()])
    assert len(letters.texts) == 1


def test_no_newline_gets_into_a_header(tmp_path: Path) -> None:
    with smtp_server(tmp_path) as letters:
        channel, _ = email_channel(letters)
        channel.send([alert(title="Bad\r\nBcc: evil@example.com\n\nbody")])
    assert mail(letters)["Bcc"] is None
    assert mail(letters)["Subject"] == "[ERROR] Bad Bcc: evil@example.com body"


def test_a_refused_password_is_told_without_it_and_not_tried_again(tmp_path: Path) -> None:
    with smtp_server(tmp_path, auth=True) as letters:
        channel, taken = email_channel(letters, **{**LOGIN, "email_password": "wrong password"})
        with pytest.raises(DeliveryError, match=r"SMTPAuthenticationError \(535\)") as caught:
            channel.send([alert()])
    assert taken == []
    assert "wrong password" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with smtp_server(tmp_path) as letters:
        channel, taken = email_channel(letters, email_ca_file=None)
        with pytest.raises(DeliveryError, match="cannot be secured"):
            channel.send([alert()])
    assert (letters.texts, taken) == ([], [])


def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    with smtp_server(tmp_path, tls=False) as letters:
        channel, _ = email_channel(letters)
        with pytest.raises(DeliveryError, match="cannot be secured"):
            channel.send([alert()])
        assert letters.texts == []
        plain, _ = email_channel(letters, email_security="none")
        plain.send([alert()])
    assert letters.secured == [False]


def test_a_temporary_refusal_is_tried_again_as_the_same_mail(tmp_path: Path) -> None:
    with smtp_server(tmp_path) as letters:
        letters.answers = ["451 try later"]
        channel, taken = email_channel(letters)
        channel.send([alert()])
    assert (letters.attempts, taken) == (2, [1.0])
    assert mail(letters)["Message-ID"].endswith("@example.com>")
    assert letters.offered == [letters.texts[0]] * 2


def test_a_final_refusal_is_not_tried_again(tmp_path: Path) -> None:
    with smtp_server(tmp_path) as letters:
        letters.answers = ["554 never"]
        channel, _ = email_channel(letters)
        with pytest.raises(DeliveryError, match="554"):
            channel.send([alert()])
    assert letters.attempts == 1


def test_a_mail_server_that_hangs_is_given_up() -> None:
    with silent_server() as port:
        channel, taken = email_channel(None, email_smtp_port=port)
        with pytest.raises(TransientError, match="no answer"):
            channel.send([alert()])
    assert taken == [1.0, 2.0]


# Secrets


def test_secrets_are_taken_out_by_value_and_by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "plain-looking-key")
    scrubber = Scrubber(["hunter22"])
    key = "sk-" + "ant-api03-0123456789abcdef"
    nasty = f"401 for {key} with hunter22, plain-looking-key and Bearer abcdefgh123=="
    clean = scrubber.finding(replace(finding(), message=nasty, facts={"last_error": [nasty, {"k": nasty}]}))
    assert clean.message == "401 for [hidden] with [hidden], [hidden] and Bearer [hidden]"
    assert clean.facts == {"last_error": [clean.message, {"k": clean.message}]}
    assert clean.fingerprint == finding().fingerprint
    assert scrubber.text("Quality gates failed: quality=65.0 < 70.0") == "Quality gates failed: quality=65.0 < 70.0"
