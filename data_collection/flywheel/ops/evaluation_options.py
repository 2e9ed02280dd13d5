"""The flags that bear on how a run is judged, shown and told elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

NO_PLACE = ""


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """The forecast before a run, a model as judge, the test's texts, MLflow."""
    group = parser.add_argument_group("forecast, judge and report")
    add = group.add_argument
    forecast = "tell what the stored datasets' tests can show and what earlier runs lead to expect; runs nothing"
    add("--predict", action="store_true", help=forecast)
    judge = "let this model score both programs' answers, where a signature asks for it; decides nothing by itself"
    add("--judge", metavar="MODEL", help=judge)
    add("--judge-api-base", metavar="URL", help="an OpenAI-compatible server for the judge")
    add("--force-judge", action="store_true", help="let the model under optimization judge itself")
    reveal = "show test examples with their texts in the report; the test split then retires into train"
    add("--reveal-test", action="store_true", help=reveal)
    mlflow = "log the run to MLflow (extra mlflow); without URI where MLFLOW_TRACKING_URI says"
    add("--mlflow", nargs="?", const=NO_PLACE, metavar="URI", help=mlflow)
