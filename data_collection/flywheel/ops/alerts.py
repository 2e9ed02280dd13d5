"""Alert channels of this machine and of its mail: log, files, email. webhooks.py has Slack and HTTP."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from itertools import count
from typing import TYPE_CHECKING

from flywheel.base.cli import say
from flywheel.base.clock import stamp
from flywheel.base.errors import BadInputError
from flywheel.base.files import scratch_name, sync_folder, to_json, write_synced
from flywheel.base.paths import private_folder
from flywheel.base.retry import DeliveryError, Patience, TransientError, retrying
from flywheel.base.text import one_line, visible
from flywheel.ops.findings import subject

if TYPE_CHECKING:
    import smtplib
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.findings import Alert

TEMPORARY_SMTP = range(400, 500)


@dataclass(frozen=True)
class LogChannel:
    """JSON lines on stderr."""

    min_level: str
    name: str = "log"
    grouped: bool = False

    def send(self, alerts: Sequence[Alert]) -> None:
        """See Channel."""
        for alert in alerts:
            say(to_json(alert.to_dict(), None).rstrip())


@dataclass(frozen=True)
class FileChannel:
    """One file an alert: alert_<level>_YYYYMMDD_HHMMSS.json, with a suffix when the name is taken."""

    min_level: str
    folder: Path
    name: str = "file"
    grouped: bool = False

    def send(self, alerts: Sequence[Alert]) -> None:
        """See Channel."""
        try:
            private_folder(self.folder)
            for alert in alerts:
                self._write(alert)
        except (BadInputError, OSError) as error:
            msg = f"{self.folder}: {error}"
            raise DeliveryError(msg) from error

    def _write(self, alert: Alert) -> None:
        base = f"alert_{alert.level}_{stamp(datetime.fromisoformat(alert.timestamp))}"
        scratch = scratch_name(self.folder / base)
        write_synced(scratch, to_json(alert.to_dict()).encode())
        try:
            for number in count(1):
                try:
                    # A link, unlike a rename, never replaces what is there.
                    os.link(scratch, self.folder / f"{base}{f'_{number}' if number > 1 else ''}.json")
                except FileExistsError:
                    continue
                break
        finally:
            scratch.unlink()
        sync_folder(self.folder)


@dataclass(frozen=True)
class EmailChannel:
    """SMTP; one mail a run."""

    min_level: str
    config: MonitoringConfig
    patience: Patience
    name: str = "email"
    grouped: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        """See Channel."""
        # Written once, so that a second attempt after a lost answer has the same Message-ID.
        message = self.message(alerts)
        retrying(lambda: self._deliver(message), self.patience)

    def message(self, alerts: Sequence[Alert]) -> EmailMessage:
        """The mail that tells these alerts."""
        message = EmailMessage()
        message["Subject"] = subject(alerts)
        message["From"] = self.config.email_from
        message["To"] = ", ".join(self.config.email_to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n\n".join(_paragraph(alert) for alert in alerts) + "\n")
        return message

    @property
    def _domain(self) -> str:
        return self.config.email_from.rpartition("@")[2]

    def _deliver(self, message: EmailMessage) -> None:
        import smtplib

        try:
            with self._connect() as server:
                if self.config.email_username is not None and self.config.email_password is not None:
                    server.login(
                        self.config.email_username.get_secret_value(), self.config.email_password.get_secret_value()
                    )
                for address in server.send_message(message):
                    say(f"email: the server refused {one_line(address)}; the other recipients have it")
        except smtplib.SMTPRecipientsRefused as error:
            raise _smtp_error(
                "every recipient was refused", min(code for code, _ in error.recipients.values())
            ) from None
        except smtplib.SMTPResponseException as error:
            # The server's words are left out: some repeat what they were sent.
            raise _smtp_error(type(error).__name__, error.smtp_code) from None
        except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError) as error:
            msg = f"the connection cannot be secured or authenticated ({type(error).__name__})"
            raise DeliveryError(msg) from None
        except (smtplib.SMTPException, OSError) as error:
            msg = f"no answer ({type(error).__name__})"
            raise TransientError(msg) from None

    def _connect(self) -> smtplib.SMTP:
        import smtplib

        config = self.config
        where = (config.email_smtp_server, config.email_smtp_port, self._domain)
        if config.security == "none":
            return smtplib.SMTP(*where, timeout=self.patience.timeout)
        context = ssl.create_default_context(cafile=config.email_ca_file)
        if config.security == "ssl":
            return smtplib.SMTP_SSL(*where, timeout=self.patience.timeout, context=context)
        server = smtplib.SMTP(*where, timeout=self.patience.timeout)
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server


def _smtp_error(what: str, code: int) -> DeliveryError:
    msg = f"{what} ({code})"
    return TransientError(msg) if code in TEMPORARY_SMTP else DeliveryError(msg)


def _paragraph(alert: Alert) -> str:
    details = "\n".join(f"  {key}: {one_line(str(value), 500)}" for key, value in alert.details.items())
    return visible(f"{alert.level.upper()}: {alert.title}\n{alert.message}\n{alert.timestamp}\n{details}")
