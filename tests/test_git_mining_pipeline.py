"""The miner, end to end on real repositories: every label is checked against the text it is about."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import git_mining_pipeline as miner
from flywheel.base.errors import BadInputError
from flywheel.data.registry import all_signatures
from flywheel.data.schema import problems

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "data_collection" / "git_mining_pipeline.py"
IDENTITY = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@analytical.engine", "-c", "commit.gpgsign=false")
NAMES = list(all_signatures())

SLUG = '''"""Text helpers."""


def slugify(title):
    """Turn a title into a URL part."""
    parts = []
    for word in title.lower().split():
        if word.isalnum():
            parts.append(word)
    return "-".join(parts)


def shorten_title(title, limit):
    """Cut a title at a word boundary within the limit."""
    words = []
    for word in title.split():
        if len(" ".join([*words, word])) > limit and words:
            break
        words.append(word)
    return " ".join(words)


def count_vowels(text):
    """Count the vowels of a text in any case."""
    total = 0
    for letter in text.lower():
        if letter in "aeiou":
            total += 1
    return total
'''
SLUG_TESTS = """from text import slugify


def test_slugify_joins_words():
    assert slugify("Hello World") == "hello-world"


def test_slugify_drops_signs():
    assert slugify("a & b") == "a-b"
"""
STORE = '''"""A store of numbers."""


def read_numbers(path):
    """Read one number a line."""
    numbers = []
    with open(path) as stream:
        for line in stream:
            numbers.append(int(line))
    return numbers


def average(numbers):
    """The mean of the numbers."""
    return sum(numbers) / len(numbers)
'''
GO = """package store

// OpenCache returns the cache of a folder, empty when there is none.
func OpenCache(folder string) *Cache {
\tcache := load(folder)
\tif cache == nil {
\t\tcache = empty()
\t}
\treturn cache
}
"""


class Repo:
    """A repository that grows by commits, each a day after the one before, the last one today."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.clock = datetime.now(UTC) - timedelta(days=60)
        self.git("init", "-q", "-b", "main")

    def git(self, *argv: str) -> str:
        date = self.clock.isoformat()
        env = {**os.environ, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        argv = ("git", *IDENTITY, *argv)
        return subprocess.run(argv, cwd=self.folder, env=env, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str, files: dict[str, str]) -> str:
        self.clock += timedelta(days=1)
        for name, content in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINING_DATA_DIR", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo")


@pytest.fixture
def rich(repo: Repo) -> Repo:
    repo.commit("Start the project here", {"README.md": "# Project\n\nText.\n", "src/store.py": STORE})
    repo.commit(
        "feat(text): added text helpers for titles (#12)", {"src/text.py": SLUG, "tests/test_text.py": SLUG_TESTS}
    )
    repo.commit(
        "Fix average of no numbers raising ZeroDivisionError\n\n"
        "An empty list made average() raise a ZeroDivisionError, which callers did not expect.\n\n"
        "Signed-off-by: Ada <ada@analytical.engine>",
        {"src/store.py": STORE.replace("    return sum", "    if not numbers:\n        return 0.0\n    return sum")},
    )
    repo.commit(
        "Improve the command line\n\n- Added a --verbose option for progress\n- Fixes the exit code on errors\n"
        "- Document both in the README\n\nhttps://example.org/42\nFixes #42",
        {"src/cli.py": 'import argparse\n\np = argparse.ArgumentParser()\np.add_argument("--verbose")\n'},
    )
    repo.commit("Cache folders between runs", {"store/cache.go": GO})
    repo.commit(
        "Explain how to install the package", {"README.md": "# Project\n\nText.\n\n## Installing it\n\nRun pip.\n"}
    )
    repo.commit("Rename the default output folder", {"src/paths.txt": "output = build\nkept = 1\nother = 2\n"})
    return repo


def mine(repo: Repo, output: Path, *flags: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    code = miner.main(["--repo-path", str(repo.folder), "--output", str(output), *flags])
    return code, {path.stem: json.loads(path.read_text()) for path in sorted(output.glob("*.json"))}


def every(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, example) for name, examples in found.items() for example in examples]


def test_every_signature_gets_sound_examples(rich: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = mine(rich, tmp_path / "out")
    assert code == 0
    assert sorted(found) == sorted(NAMES)
    table = all_signatures()
    for name, example in every(found):
        assert not list(problems(table[name], example["inputs"], example["outputs"]))
        metadata = example["metadata"]
        assert metadata["source"] == "git"
        assert metadata["difficulty"] in {"easy", "medium", "hard"}
        assert re.fullmatch(r"[0-9a-f]{40}", metadata["commit_sha"])
        assert metadata["evidence"]
        assert metadata["group"] == "pr:12" or re.fullmatch(r"commit:[0-9a-f]{12}", metadata["group"])
    assert all(found.values())
    printed = capsys.readouterr()
    assert json.loads(printed.out)["collected"] == {name: len(examples) for name, examples in found.items()}
    assert re.search(r"^validate_correctness: collected: \d+ examples, target: 30; ", printed.err, re.MULTILINE)
    report = json.loads((tmp_path / "out" / "reports" / "mining_report.json").read_text())
    assert report["commits"]["in_range"] == 7


def named(requirement: str) -> str:
    match = re.search(r"`([^`]+)`", requirement)
    assert match, requirement
    return match[1]


@pytest.mark.parametrize(
    ("name", "label", "faults"),
    [
        ("validate_completeness", "is_complete", "missing_requirements"),
        ("validate_intent", "intent_satisfied", "missing_aspects"),
    ],
)
def test_what_is_met_is_shown_and_what_is_missing_is_not(
    rich: Repo, tmp_path: Path, name: str, label: str, faults: str
) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    labels = {example["outputs"][label] for example in found[name]}
    assert labels == {True, False}
    for example in found[name]:
        shown, missing = example["inputs"]["implementation"], example["outputs"][faults]
        assert set(missing) <= set(example["inputs"]["requirements"])
        assert example["outputs"][label] == (not missing)
        assert len(shown) <= 1_600 or missing
        for requirement in example["inputs"]["requirements"]:
            assert (named(requirement) in shown) == (requirement not in missing)


def test_variants_of_a_commit_share_a_group(rich: Repo, tmp_path: Path) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    text = [e for e in found["validate_completeness"] if e["metadata"]["group"] == "pr:12"]
    assert {e["outputs"]["is_complete"] for e in text} == {True, False}
    complete = next(e for e in text if e["outputs"]["is_complete"])
    assert "Add a function `slugify` to src/text.py: Turn a title into a URL part" in complete["inputs"]["requirements"]


def test_stated_requirements_are_the_authors_own(rich: Repo, tmp_path: Path) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    by_intent = {e["inputs"]["user_intent"]: e for e in found["extract_requirements"]}
    bullets = by_intent["Improve the command line"]
    assert bullets["outputs"]["requirements"] == [
        "Add a --verbose option for progress",
        "Fix the exit code on errors",
        "Document both in the README",
    ]
    assert bullets["outputs"]["priorities"] == [6, 8, 2]
    assert "--verbose" in bullets["inputs"]["context"]
    assert "#42" not in json.dumps(bullets)
    assert "https" not in json.dumps(bullets["inputs"])
    feature = by_intent["Add text helpers for titles"]
    assert feature["outputs"] == {"requirements": ["Add text helpers for titles"], "priorities": [6]}


def test_a_fix_gives_faulty_and_sound_code_under_one_claim(rich: Repo, tmp_path: Path) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    pair = [e for e in found["validate_correctness"] if e["inputs"]["implementation"].startswith("Fix average")]
    faulty, sound = sorted(pair, key=lambda e: e["outputs"]["is_correct"])
    assert "if not numbers" not in faulty["inputs"]["code_sample"]
    assert "if not numbers" in sound["inputs"]["code_sample"]
    assert faulty["outputs"]["issues"] == [
        "An empty list made average() raise a ZeroDivisionError, which callers did not expect."
    ]
    assert sound["outputs"]["issues"] == []


def test_mutations_change_one_line_and_name_it(rich: Repo, tmp_path: Path) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    examples = found["validate_correctness"]
    sound = {e["inputs"]["implementation"]: e["inputs"]["code_sample"] for e in examples if e["outputs"]["is_correct"]}
    faulty = [e for e in examples if e["metadata"]["evidence"]["code"] == "a fault was put in"]
    # A group gives few examples, so that the sound twin of one may have been left out.
    mutated = [e for e in faulty if e["inputs"]["implementation"] in sound]
    assert mutated
    for example in mutated:
        code, good = example["inputs"]["code_sample"], sound[example["inputs"]["implementation"]]
        assert code != good
        if ".py" in example["inputs"]["implementation"]:
            ast.parse(code)
        changed = [line for line in good.splitlines() if line not in code.splitlines()]
        assert len(changed) == 1
        assert changed[0].strip(" \t{:") in example["outputs"]["issues"][0]


def test_a_guidance_example_has_the_code_that_was_withheld(rich: Repo, tmp_path: Path) -> None:
    _, found = mine(rich, tmp_path / "out", "--target", "200")
    for example in found["generate_guidance"]:
        assert all(item["code_example"] for item in example["outputs"]["guidance"])


def test_reverted_later_fixed_and_empty_messages_teach_nothing_wrong(repo: Repo, tmp_path: Path) -> None:
    repo.commit("Start with a store of numbers", {"src/store.py": "x = 1\n"})
    bad = repo.commit("Add text helpers for titles", {"src/text.py": SLUG})
    repo.git("revert", "--no-edit", bad)
    repo.commit("Add reading of numbers from files", {"src/store.py": STORE})
    repo.commit(
        "Fix average of no numbers raising an error",
        {"src/store.py": STORE.replace("    return sum", "    if not numbers:\n        return 0.0\n    return sum")},
    )
    repo.commit("wip", {"src/wip.py": SLUG})
    repo.commit("Bump requests from 2.1.0 to 2.2.0", {"requirements.txt": "requests==2.2.0\n"})
    repo.commit("Update stuff and things", {"src/stuff.py": GO})
    _, found = mine(repo, tmp_path / "out", "--target", "200")
    skipped = json.loads((tmp_path / "out" / "reports" / "mining_report.json").read_text())["commits"]["skipped"]
    assert skipped == {"message_too_short": 1, "version_bump": 1, "message_says_nothing": 1, "revert": 1, "reverted": 1}
    text = json.dumps(found)
    assert "slugify" not in text
    correct = [e for e in found["validate_correctness"] if e["outputs"]["is_correct"]]
    assert not [e for e in correct if "`average`" in e["inputs"]["implementation"]]


def test_secrets_and_addresses_are_dropped_and_hidden_characters_stripped(repo: Repo, tmp_path: Path) -> None:
    key = "AKIA" + "IOSFODNN7ABCDEFG"
    repo.commit("Start with a store of numbers", {"src/store.py": STORE})
    repo.commit(
        "Add an upload to the bucket", {"src/up.py": f'KEY = "{key}"\n\n\ndef upload_file(path):\n    send(path)\n'}
    )
    repo.commit(
        "Add a contact for the maintainers", {"src/c.py": "def contact_us():\n    mail('jane.doe@corp.com')\n    x()\n"}
    )
    repo.commit(
        "Add a greeting \u202efor readers\u200b here", {"src/g.py": "def greet_all():\n    # \u202e hi\n    return 1\n"}
    )
    _, found = mine(repo, tmp_path / "out", "--target", "200")
    text = json.dumps(found, ensure_ascii=False)
    assert key not in text
    assert "jane.doe" not in text
    assert "Add a greeting for readers here" in text
    assert "\u202e" not in text
    dropped = json.loads((tmp_path / "out" / "reports" / "mining_report.json").read_text())["dropped"]
    assert dropped["secret"] >= 1
    assert dropped["email_address"] >= 1


def test_authors_are_pseudonyms_that_last(rich: Repo, tmp_path: Path, datasets: Path) -> None:
    _, first = mine(rich, tmp_path / "one")
    _, second = mine(rich, tmp_path / "two")
    authors = {e["metadata"]["author"] for _, e in [*every(first), *every(second)]}
    assert len(authors) == 1
    assert re.fullmatch(r"author-[0-9a-f]{16}", authors.pop())
    assert (datasets / ".author_key").stat().st_mode & 0o777 == 0o600
    assert "Lovelace" not in json.dumps(first)
    _, kept = mine(rich, tmp_path / "three", "--keep-authors")
    assert {e["metadata"]["author"] for _, e in every(kept)} == {"Ada Lovelace <ada@analytical.engine>"}


def test_two_runs_agree(rich: Repo, tmp_path: Path) -> None:
    def content(found: dict[str, list[dict[str, Any]]]) -> list[Any]:
        return [(name, e["inputs"], e["outputs"], e["metadata"]["group"]) for name, e in every(found)]

    assert content(mine(rich, tmp_path / "one")[1]) == content(mine(rich, tmp_path / "two")[1])


def test_filters(rich: Repo, tmp_path: Path) -> None:
    def shas(*flags: str) -> set[str]:
        found = mine(rich, tmp_path / "out", "--target", "200", *flags)[1]
        return {e["metadata"]["commit_sha"] for _, e in every(found)}

    everything = shas()
    assert shas("--types", "feat") < everything
    assert len(shas("--include", "*.go")) == 1
    assert shas("--exclude", "*.py", "README.md") < everything
    assert len(shas("--max-commits", "2")) <= 2
    assert shas("--min-commit-message-length", "45") < everything
    assert shas("--since-days", "1") < everything
    assert shas("--signatures", "extract_requirements") <= everything


def test_machine_made_files_are_not_mined(repo: Repo, tmp_path: Path) -> None:
    repo.commit("Start with a store of numbers", {"src/store.py": STORE})
    files = ["package-lock.json", "vendor/a.py", "node_modules/b.py", "app.min.js", "x_pb2.py", "CHANGELOG.md"]
    repo.commit("Add everything that machines make", dict.fromkeys(files, SLUG))
    _, found = mine(repo, tmp_path / "out")
    assert "slugify" not in json.dumps(found)


def test_unshowable_file_names_and_bytes_are_survived(repo: Repo, tmp_path: Path) -> None:
    repo.commit("Start with a store of numbers", {"src/store.py": STORE})
    (repo.folder / os.fsdecode(b"caf\xe9.py")).write_bytes(SLUG.encode())
    (repo.folder / "bidi\u202e.py").write_bytes(SLUG.encode())
    (repo.folder / "latin.py").write_bytes(b"def greet_reader():\r\n    # caf\xe9\r\n    return 1\r\n")
    repo.commit("Add files with strange names", {})
    code, found = mine(repo, tmp_path / "out", "--target", "200", "--since-days", "999999999")
    assert code == 0
    text = json.dumps(found)
    assert "slugify" not in text
    assert "greet_reader" in text


def test_merges_are_left_out_unless_asked_for(repo: Repo, tmp_path: Path) -> None:
    repo.commit("Start with a store of numbers", {"src/store.py": STORE})
    repo.git("checkout", "-qb", "side")
    repo.commit("Add text helpers for titles", {"src/text.py": SLUG})
    repo.git("checkout", "-q", "main")
    repo.clock += timedelta(days=1)
    repo.git("merge", "-q", "--no-ff", "-m", "Bring the title helpers of the side branch", "side")
    merge = repo.git("rev-parse", "HEAD").strip()
    assert merge not in json.dumps(mine(repo, tmp_path / "out", "--exclude-merge-commits")[1])
    mine(repo, tmp_path / "out", "--include-merge-commits")
    report = json.loads((tmp_path / "out" / "reports" / "mining_report.json").read_text())
    assert "merge_commit" not in report["commits"]["skipped"]


def test_nothing_found_is_told_and_exits_1(repo: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo.commit("wip", {"a.py": "x = 1\n"})
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    (out / "mine.txt").write_text("kept")
    code, found = mine(repo, out, "--signatures", "validate_intent,extract_requirements", "--target", "3")
    assert code == 1
    assert found == {"extract_requirements": [], "validate_intent": []}
    assert (out / "mine.txt").read_text() == "kept"
    told = capsys.readouterr().err
    assert (
        "validate_intent: collected: 0 examples, target: 3; 1 commits in the last 90 days, 1 of them filtered" in told
    )
    assert "raise --since-days" in told


def test_bad_input_is_refused(repo: Repo, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(BadInputError, match="no commits yet"):
        miner.main(["--repo-path", str(repo.folder), "--output", out])
    repo.commit("Start with a store of numbers", {"src/store.py": STORE})
    with pytest.raises(BadInputError, match="unknown signature nonsense"):
        miner.main(["--repo-path", str(repo.folder), "--output", out, "--signatures", "nonsense"])
    with pytest.raises(BadInputError, match="unknown commit type nonsense"):
        miner.main(["--repo-path", str(repo.folder), "--output", out, "--types", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        miner.main(["--repo-path", str(repo.folder), "--output", out, "--target", "0"])


def test_a_signature_of_the_users_own_is_mined_too(rich: Repo, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from flywheel.data.signatures import Field, Measure, Signature\n"
        "def project(scenario):\n"
        "    if not scenario.implementation: return None\n"
        "    return {'diff': scenario.implementation}, {'title': scenario.intent}\n"
        "SIGNATURES = [Signature('name_change', (Field('diff', 'str', 'A diff'),), (Field('title', 'str', 'Title'),),\n"
        "    'Name the change.', (Measure('list_f1', 'title', 1.0),), project)]\n"
    )
    own.chmod(0o600)
    code, found = mine(rich, tmp_path / "out", "--signature-file", str(own), "--signatures", "name_change")
    assert code == 0
    assert found["name_change"]


def test_the_repository_one_stands_in_is_the_default(rich: Repo, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "out"), "--target", "2"]
    done = subprocess.run(command, cwd=rich.folder / "src", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["collected"]["validate_intent"] == 2
    nowhere = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert nowhere.returncode == 2
    assert nowhere.stderr.strip().startswith("error: ")
    assert len(nowhere.stderr.strip().splitlines()) == 1


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"dspy", "anthropic", "numpy", "pydantic", "git", "detect_secrets"}
    assert "--min-commit-message-length" in done.stdout
