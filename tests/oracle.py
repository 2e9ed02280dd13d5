"""An answerer for tests/loopback.py that knows the stored labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Prompt


class Oracle:
    """Knows the stored label of every example that it is asked about, as a perfect annotator would."""

    def __init__(self, datasets: Path) -> None:
        self._datasets = datasets

    def __call__(self, prompt: Prompt) -> dict[str, Any]:
        asked = {name: words(text) for name, text in prompt.inputs.items()}
        for path in self._datasets.glob("*/latest/dataset.json"):
            for row in json.loads(path.read_text()):
                if asked == {name: words(value) for name, value in row["inputs"].items()}:
                    outputs: dict[str, Any] = row["outputs"]
                    return outputs
        return dict.fromkeys(prompt.outputs, "Nothing remarkable.")

    def rows(self, signature: str, split: str) -> list[dict[str, Any]]:
        """The stored examples of a split, in order; none before there are any."""
        path = self._datasets / signature / "latest" / "dataset.json"
        return [row for row in json.loads(path.read_text()) if row["split"] == split] if path.is_file() else []

    def opposite(self, prompt: Prompt) -> dict[str, Any]:
        """An answer with every judgement and list wrong, in fields of the right type."""
        return {name: _wrong(value) for name, value in self(prompt).items()}


def _wrong(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return ["Something else entirely"] if all(isinstance(item, str) for item in value) else []
    return value


def words(value: Any) -> str:
    """A value as the adapters write it, blanks evened out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.replace("{ ", "{").replace(" }", "}").split())
