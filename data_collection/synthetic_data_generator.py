"""Generate labelled examples from templates, with labels that are true by construction.

Usage:
  python synthetic_data_generator.py --target 20 --output /tmp/synthetic_data

Each template of synthetic_templates.toml describes a feature in five independent parts; a part has the requirement,
the same demand in a user's words, a sentence that meets it, one that only seems to, correct code, and the code with a
known bug (the tests run both). A scenario takes some parts, decides which the implementation meets, and so knows its
own labels. No model takes part. TARGET is per signature.

Exit codes: 0 at least one example, 1 none, 2 bad input.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from flywheel.base import cli
from flywheel.base.errors import NO, OK
from flywheel.base.paths import private_folder
from flywheel.data.registry import all_signatures, chosen
from flywheel.data.scenario import DIFFICULTIES, DIFFICULTY_TARGET, Defect, Requirement, Scenario

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature

TEMPLATES = Path(__file__).with_name("synthetic_templates.toml")
SOURCE = "synthetic"
DEFAULT_TARGET = 20
# How many parts a scenario has, and how many missing parts are covered up by a sentence that only seems to meet them.
PARTS = {"easy": 2, "medium": 3, "hard": 5}
DISGUISED = {"easy": 0.0, "medium": 0.5, "hard": 1.0}
COMPLETE_SHARE = 0.45
# Candidates per wanted example: enough for the selection to hit the label and difficulty targets.
CANDIDATES_PER_TARGET = 4
MOST_ROUNDS = 40
# Inputs this alike (0-1) with the same label are one example; data_validator.py would drop the second.
SAME = 0.85
# Nothing below this quality (0-100) leaves the generator.
MIN_QUALITY = 75.0
LINKS = ("We need that {}.", "Also, {}.", "It matters that {}.", "Please make sure that {}.", "And {}.")


@dataclass(frozen=True)
class Part:
    """One independent piece of a feature, slots filled in."""

    kind: str
    requirement: str
    asked: str
    done: str
    near: str
    code: str
    bug: str
    issue: str


@dataclass(frozen=True)
class Blueprint:
    """A template with its slots filled in."""

    id: str
    category: str
    intents: tuple[str, ...]
    background: tuple[str, ...]
    asides: tuple[str, ...]
    parts: tuple[Part, ...]
    slots: Mapping[str, str]


@dataclass(frozen=True)
class Generated:
    """Examples by signature, and for each signature that fell short, why."""

    examples: dict[str, list[Example]]
    shortfalls: dict[str, str]


def read_templates(path: Path = TEMPLATES) -> list[dict[str, Any]]:
    """The templates as written; BadInputError names the line where the file is not TOML."""
    import tomllib

    from flywheel.base.errors import BadInputError
    from flywheel.base.files import read_text

    try:
        templates: list[dict[str, Any]] = tomllib.loads(read_text(path))["template"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        msg = f"{path}: {error}; expected TOML with [[template]] entries"
        raise BadInputError(msg) from error
    return templates


def fill(template: Mapping[str, Any], rng: random.Random) -> Blueprint:
    """The template with a random value in each slot."""
    slots = {name: rng.choice(values) for name, values in sorted(template["slots"].items())}

    def filled(text: str) -> str:
        return Template(text).substitute(slots)

    names = ("requirement", "asked", "done", "near", "code", "bug", "issue")
    parts = tuple(Part(part["kind"], *(filled(part[name]).strip() for name in names)) for part in template["part"])
    return Blueprint(
        id=template["id"],
        category=template["category"],
        intents=tuple(map(filled, template["intent"])),
        background=tuple(map(filled, template["background"])),
        asides=tuple(map(filled, template["aside"])),
        parts=parts,
        slots=slots,
    )


def compose(blueprint: Blueprint, difficulty: str, rng: random.Random) -> Scenario:
    """A scenario over some of the blueprint's parts, some of them (often none) not met."""
    parts = rng.sample(blueprint.parts, PARTS[difficulty])
    unmet = 0 if rng.random() < COMPLETE_SHARE else rng.randint(1, len(parts) - 1)
    missing = set(rng.sample(range(len(parts)), unmet))
    intent, work_item = rng.sample(blueprint.intents, 2)
    # Code is shown for what was done: a part is never missing and faulty at once.
    shown = rng.choice([part for index, part in enumerate(parts) if index not in missing])
    faulty = rng.random() < 1 / 2
    return Scenario(
        source=SOURCE,
        group=f"template:{blueprint.id}",
        category=blueprint.category,
        difficulty=difficulty,
        intent=intent,
        context=_context(blueprint, parts, difficulty, rng),
        work_item=work_item,
        implementation=_implementation(parts, missing, difficulty, rng),
        requirements=tuple(
            Requirement(part.requirement, part.kind, met=index not in missing, snippet=part.code, how=part.done)
            for index, part in enumerate(parts)
        ),
        claim=shown.requirement,
        code_sample=shown.bug if faulty else shown.code,
        code_judged=True,
        defects=(Defect(shown.issue, fix=shown.code),) if faulty else (),
        provenance={"template": blueprint.id, "slots": dict(blueprint.slots)},
    )


def _context(blueprint: Blueprint, parts: Sequence[Part], difficulty: str, rng: random.Random) -> str:
    """Background with the parts' demands woven in, in order; hard ones also mention what is not asked for."""
    links = [LINKS[0], *rng.sample(LINKS[1:], len(LINKS) - 1)]
    sentences = [link.format(part.asked.rstrip(".")) for link, part in zip(links, parts, strict=False)]
    if difficulty == "hard":
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(blueprint.asides))
    return " ".join([rng.choice(blueprint.background), *sentences])


def _implementation(parts: Sequence[Part], missing: set[int], difficulty: str, rng: random.Random) -> str:
    """A summary of what was done: a sentence for each met part, and sometimes one that hides a missing part."""
    sentences = [part.done for index, part in enumerate(parts) if index not in missing]
    sentences += [parts[index].near for index in sorted(missing) if rng.random() < DISGUISED[difficulty]]
    rng.shuffle(sentences)
    return " ".join(sentences)


def scenarios(templates: Sequence[Mapping[str, Any]], seed: str, rounds: int) -> Iterator[Scenario]:
    """`rounds` scenarios of each template; equal seeds give equal scenarios."""
    levels, weights = DIFFICULTIES, [DIFFICULTY_TARGET[level] for level in DIFFICULTIES]
    for number in range(rounds):
        for template in templates:
            rng = random.Random(f"{seed}/{template['id']}/{number}")  # noqa: S311 - variation, not secrecy
            yield compose(fill(template, rng), rng.choices(levels, weights)[0], rng)


def generate(
    signatures: Sequence[Signature], target: int, seed: str, progress: Callable[[str], None] = cli.say
) -> Generated:
    """Up to `target` examples for each signature, chosen for label balance, difficulty and variety."""
    from flywheel.data.selection import select

    templates = read_templates()
    rounds = min(MOST_ROUNDS, 1 + CANDIDATES_PER_TARGET * target // len(templates))
    pool = list(scenarios(templates, seed, rounds))
    result = Generated({}, {})
    for signature in signatures:
        candidates = _candidates(signature, pool, seed)
        result.examples[signature.name] = select(candidates, signature, target)
        found = len(result.examples[signature.name])
        progress(f"{signature.name}: {found} synthetic examples from {len(templates)} templates")
        if found < target:
            why = _shortfall(signature, pool, candidates, templates)
            result.shortfalls[signature.name] = f"collected: {found} examples, target: {target}; {why}"
    return result


def _candidates(signature: Signature, pool: Sequence[Scenario], seed: str) -> list[Example]:
    """The pool as scored examples of the signature, without repeats and poor ones."""
    from flywheel.data.duplicates import input_text, near_pairs, repeats
    from flywheel.data.projection import project_all
    from flywheel.data.scoring import score_missing

    examples = [example.with_metadata(seed=seed) for example in project_all(signature, pool)]
    pairs = near_pairs([input_text(signature, example.inputs) for example in examples], SAME)
    repeated = repeats(signature, examples, pairs)
    kept = [example for position, example in enumerate(examples) if position not in repeated]
    return [e for e in score_missing(signature, kept) if (e.metadata.quality_score or 0) >= MIN_QUALITY]


def _shortfall(
    signature: Signature, pool: Sequence[Scenario], candidates: Sequence[Example], templates: Sequence[object]
) -> str:
    if not candidates and not any(signature.project(scenario) for scenario in pool):
        return "no template says anything about this signature; its project() returned None for every scenario"
    return (
        f"{len(templates)} templates give {len(candidates)} examples that differ enough; add templates or another seed"
    )


def write(output: Path, generated: Generated) -> None:
    """Write `<output>/<signature>.json` for each signature; other files stay as they are."""
    from flywheel.data.examples import write_examples

    private_folder(output)
    for name, examples in generated.examples.items():
        write_examples(output / f"{name}.json", examples)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    wanted = "examples to generate for each signature"
    parser.add_argument("--target", type=cli.positive_int, default=DEFAULT_TARGET, metavar="N", help=wanted)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for <signature>.json files")
    parser.add_argument("--seed", default="0", help="equal seeds give equal examples")
    cli.add_signatures(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)
    signatures = chosen(all_signatures(args.signature_file), args.signatures)
    output = private_folder(Path(args.output))
    generated = generate(signatures, args.target, args.seed)
    write(output, generated)
    for name, reason in generated.shortfalls.items():
        cli.say(f"{name}: {reason}")
    return OK if any(generated.examples.values()) else NO


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
