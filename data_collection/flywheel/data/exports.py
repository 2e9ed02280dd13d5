"""A version in other tools' formats: JSON lines, what reconstructs dspy.Examples, Hugging Face datasets, Parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.base.files import to_json, write_atomic
from flywheel.base.paths import private_folder
from flywheel.data.signatures.types import Choice, Field, ListOf, Record
from flywheel.data.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.data.signatures.types import Kind, Signature

Row = dict[str, Any]
JSON, JSONL, DSPY, HF, PARQUET = FORMATS = ("json", "jsonl", "dspy", "hf", "parquet")
# Hugging Face's names of our splits.
HF_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_FACTS = {"source": "str", "difficulty": "str", "category": "str", "quality_score": "float", "group": "str"}
_HF_SCALARS = {"str": "string", "bool": "bool", "int": "int64", "float": "float64"}


def as_text(rows: Sequence[Row], signature: Signature, form: str) -> str:
    """The rows in one of the text formats (all but parquet), with a final newline.

    Raises:
        BadInputError: hf, for a signature with a field named like one of the added columns.
    """
    if form == JSON:
        return to_json(rows)
    if form == DSPY:
        return to_json(_dspy(rows, signature))
    lines = _columns(rows, signature) if form == HF else rows
    return "".join(to_json(row, None) for row in lines)


def as_parquet(rows: Sequence[Row], signature: Signature) -> bytes:
    """The rows as a Parquet file with the columns of hf.

    Raises:
        BadInputError: pyarrow is not installed, or a field is named like one of the added columns.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        msg = "parquet needs pyarrow, which is not installed: `uv sync --extra parquet`"
        raise BadInputError(msg) from error

    def kind_of(kind: Kind) -> Any:
        if isinstance(kind, ListOf):
            return pa.list_(kind_of(kind.item))
        if isinstance(kind, Record):
            return pa.struct([(field.name, kind_of(field.kind)) for field in kind.fields])
        scalars = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
        return pa.string() if isinstance(kind, Choice) else scalars.get(kind, pa.string())

    schema = pa.schema([(name, kind_of(kind)) for name, kind in _kinds(signature).items()])
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(_columns(rows, signature), schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def export(rows: Sequence[Row], signature: Signature, form: str, target: Path) -> list[Path]:
    """Write the rows to `target`: a file, or for hf a folder that `datasets.load_dataset` reads; the files written.

    Raises:
        BadInputError: as `as_text` and `as_parquet`; a folder stands where a file is wanted, or the other way round.
    """
    if form != HF:
        if target.is_dir():
            msg = f"{target}: is a folder; name a file for {form}"
            raise BadInputError(msg)
        whole = as_parquet(rows, signature) if form == PARQUET else as_text(rows, signature, form)
        write_atomic(target, whole)
        return [target]
    folder = private_folder(target)
    shares = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    files = {f"{HF_SPLITS[split]}.jsonl": as_text(part, signature, HF) for split, part in shares.items() if part}
    files["README.md"] = _card(signature, [split for split, part in shares.items() if part])
    for name, content in files.items():
        write_atomic(folder / name, content)
    for split in SPLITS:
        if not shares[split]:
            (folder / f"{HF_SPLITS[split]}.jsonl").unlink(missing_ok=True)
    return [folder / name for name in files]


def _dspy(rows: Sequence[Row], signature: Signature) -> dict[str, Any]:
    """What `[dspy.Example(**e).with_inputs(*d["input_keys"]) for e in d["train"]]` makes a training set of.

    Nothing but the fields stands in an example, since DSPy shows all of it to the model.
    """
    splits = {split: [{**row["inputs"], **row["outputs"]} for row in rows if row["split"] == split] for split in SPLITS}
    return {"signature": signature.name, "input_keys": [field.name for field in signature.inputs], **splits}


def _kinds(signature: Signature) -> dict[str, Kind]:
    """The columns in order: id and split, the signature's fields, and a struct of facts."""
    facts = Record(tuple(Field(name, kind, "") for name, kind in _FACTS.items()))
    added: dict[str, Kind] = {"example_id": "str", "split": "str", "metadata": facts}
    fields = {field.name: field.kind for field in (*signature.inputs, *signature.outputs)}
    if taken := sorted(fields.keys() & added.keys()):
        msg = f"{signature.name}: the field {', '.join(taken)} is named like a column of this format; use jsonl"
        raise BadInputError(msg)
    return {"example_id": "str", "split": "str", **fields, "metadata": facts}


def _columns(rows: Sequence[Row], signature: Signature) -> list[Row]:
    """The rows with one column a field; metadata has the same keys in every row."""
    names = list(_kinds(signature))[2:-1]
    found = []
    for row in rows:
        values = {**row["inputs"], **row["outputs"]}
        facts = {name: row["metadata"].get(name) for name in _FACTS}
        fields = {name: values[name] for name in names}
        found.append({"example_id": row["id"], "split": row["split"], **fields, "metadata": facts})
    return found


def _card(signature: Signature, splits: Sequence[str]) -> str:
    """The dataset card whose header tells `load_dataset` the files and types; JSON is YAML too."""
    header = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": HF_SPLITS[split], "path": f"{HF_SPLITS[split]}.jsonl"} for split in splits],
            }
        ],
        "dataset_info": {"features": [_feature(name, kind) for name, kind in _kinds(signature).items()]},
    }
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    return f"---\n{lines}\n---\n\n{signature.instructions}\n"


def _feature(name: str | None, kind: Kind) -> Any:
    """One feature as a dataset card has it; without a name, what stands for a list's items."""
    named = {} if name is None else {"name": name}
    if isinstance(kind, ListOf):
        return {**named, "list": _feature(None, kind.item)}
    if isinstance(kind, Record):
        inner = [_feature(field.name, field.kind) for field in kind.fields]
        return {**named, "struct": inner} if named else inner
    dtype = "string" if isinstance(kind, Choice) else _HF_SCALARS[kind]
    return {**named, "dtype": dtype} if named else dtype
