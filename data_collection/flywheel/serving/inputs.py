"""What a rollout is started with: its modules and its settings, checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.base.files import read_json_object
from flywheel.base.paths import PROJECT_ROOT
from flywheel.base.programs import deployed_program, envelope_signature
from flywheel.serving.experiments import COMPLETED
from flywheel.serving.routing_file import read_routing
from flywheel.serving.rule import QUALITY
from flywheel.serving.settings import config_from, prometheus_from

if TYPE_CHECKING:
    from flywheel.serving.rule import RolloutConfig
    from flywheel.serving.settings import PrometheusSettings

RECORDS, PROMETHEUS = "records", "prometheus"


def find_module(text: str, signature: str) -> tuple[Path, bool]:
    """The module's absolute path, and whether it is one of our programs (whose signature is checked).

    A relative path is taken from where one stands, else from the project root.

    Raises:
        BadInputError: no such file, or a program of another signature.
        DamagedError: it holds no JSON object.
    """
    # Not Path.expanduser, which raises where a user is unknown.
    given = Path(os.path.expanduser(text))  # noqa: PTH111
    path = next((p for p in (Path.cwd() / given, PROJECT_ROOT / given) if p.is_file()), None)
    if path is None:
        msg = f"{text}: no such module, neither from here nor from {PROJECT_ROOT}"
        raise BadInputError(msg)
    # Links such as `latest` and `deployed` move; the rollout means what they name now.
    path = path.resolve()
    found = envelope_signature(path)
    if found is not None and found != signature:
        msg = f"{path}: a program of {found}, not of {signature}"
        raise BadInputError(msg)
    return path, found is not None


def deployed_champion(signature: str, programs: Path, routing_path: Path) -> Path:
    """The deployed program of the signature, to be challenged.

    Raises:
        BadInputError: none is deployed, or a completed rollout has another program serve.
        DamagedError: the routing file cannot be read.
    """
    path = deployed_program(programs, signature)
    if path is None:
        msg = f"{signature}: nothing is deployed in {programs}; name the program that serves by --baseline"
        raise BadInputError(msg)
    for route in read_routing(routing_path).routes:
        serving = Path(route.candidate_module).resolve()
        if route.signature == signature and route.status == COMPLETED and serving != path.resolve():
            msg = (
                f"{signature}: since {route.experiment_id} completed, {serving} serves and not the deployed {path}; "
                "name the one you mean by --baseline"
            )
            raise BadInputError(msg)
    return path.resolve()


def read_config(
    path: str | None, metrics: str = RECORDS, prometheus_url: str | None = None
) -> tuple[RolloutConfig, PrometheusSettings | None]:
    """The rollout's settings, the file's over the defaults; and Prometheus', None where records are the evidence.

    Raises:
        BadInputError: not readable, an unknown setting, or a value that cannot be; it is named.
        DamagedError: no JSON object.
    """
    value = {} if path is None else read_json_object(Path(path), "a JSON object of rollout settings")
    given = value.pop(PROMETHEUS, None)
    if metrics != PROMETHEUS and (given is not None or prometheus_url is not None):
        msg = f"settings of Prometheus, but --metrics {metrics}; say --metrics {PROMETHEUS}"
        raise BadInputError(msg)
    if metrics == PROMETHEUS and prometheus_url is None and not (isinstance(given, dict) and "url" in given):
        raise BadInputError("--metrics prometheus needs --prometheus-url, such as http://127.0.0.1:9090")
    try:
        config = config_from(value)
        source = prometheus_from({} if given is None else given, prometheus_url) if metrics == PROMETHEUS else None
    except BadInputError as error:
        if path is None:
            raise
        msg = f"{path}: {error}"
        raise BadInputError(msg) from error
    if source is not None and source.quality_sum is None and QUALITY in config.required:
        raise BadInputError("quality is required; prometheus needs the queries quality_sum and quality_count")
    return config, source
