"""English imperatives: is a phrase an order one can check, and which order is `Fixed crash` or `This adds a cache`?"""

from __future__ import annotations

import re

_VERBS = """
    accept add adjust adopt align allow apply assert avoid backport block build bundle cache call cancel catch change
    check clamp clarify clean clear close collect combine compare compile compute configure convert copy correct count
    cover create cut decode decouple deduplicate default define delay delete deprecate describe detect disable
    disallow display document drop emit enable encode encrypt ensure escape exclude expand explain expose extend
    extract fail fetch filter fix flag flush forbid force format forward freeze generate guard handle hide honor honour
    ignore implement import improve include increase infer inherit inline insert install integrate introduce
    invalidate keep limit link list load lock log lower make mark match merge mention migrate mock move normalise
    normalize omit optimise optimize override parse pass patch pin port preserve prevent print process prohibit
    propagate protect provide publish quote raise randomize read rebuild record reduce refactor refresh refuse
    register reimplement reject release relax remove rename render reorder reorganize repair replace report require
    reset resolve respect restore restrict retry return reuse revise rewrite round run sanitise sanitize save select
    send separate serialize set show shorten shrink silence simplify skip sort specify speed split standardize start
    stop store stream strip support suppress swap switch sync synchronize tag test throw tighten track trim truncate
    tweak type unify unpin unset update upgrade use validate verify wait warn wrap write
"""
VERBS = frozenset(_VERBS.split())
IRREGULAR = {
    "made": "make", "wrote": "write", "rewrote": "rewrite", "kept": "keep", "sent": "send", "built": "build",
    "caught": "catch", "ran": "run", "threw": "throw", "hid": "hide", "sped": "speed", "forbade": "forbid",
    "rebuilt": "rebuild", "overrode": "override", "shrank": "shrink",
}  # fmt: skip
# Words that are as often nouns: "Fix for proxies", "Changes to the parser" order nothing.
NOUN_LIKE_BEFORE = frozenset({"for", "of", "to", "in", "on", "from", "with", "and", "by", "is", "are", "was", "were"})
VERB_BEFORE = frozenset({"in", "on", "with", "for", "to", "from"})
_NOUNS = (
    "fix test update change support release patch import build call check default default process report record "
    "log list link match type tag track set run start stop use"
)
NOUNS = frozenset(_NOUNS.split())
_ADVERBS = (
    "also always automatically better consistently correctly explicitly fully gracefully immediately never only "
    "optionally partially properly really safely silently simply"
)
ADVERBS = frozenset(_ADVERBS.split())
# What one is told not to do only.
FAULTS = frozenset({"assume", "break", "crash", "hang", "leak", "lose", "overwrite", "panic", "rely"})
NEGATIONS = ("do not ", "don't ", "no longer ")
POINTS_BACK = re.compile(
    r"\b(it|its|them|they|this|that one|these|those|the above|the same|ditto|here)\b", re.IGNORECASE
)
RESTATEMENT = re.compile(
    r"^(?:this|the) (?:commit|patch|change|pull request|pr|mr|diff)\s+(?:also\s+)?(?=\w+s\b)", re.IGNORECASE
)
VOWELS = "aeiou"


def _forms(verb: str) -> dict[str, str]:
    """Third person, past and gerund of a regular verb."""
    stem = verb.removesuffix("e")
    if verb[-1] == "y" and verb[-2] not in VOWELS:
        return {f"{verb[:-1]}ies": verb, f"{verb[:-1]}ied": verb, f"{verb}ing": verb}
    third = f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh")) else f"{verb}s"
    forms = {third: verb, f"{stem}ed": verb, f"{stem}ing": verb}
    if verb[-1] not in f"{VOWELS}wxy" and verb[-2] in VOWELS and (len(verb) < 3 or verb[-3] not in VOWELS):
        forms |= {f"{verb}{verb[-1]}ed": verb, f"{verb}{verb[-1]}ing": verb}
    return forms


BASE_OF = {form: verb for verb in VERBS for form, verb in _forms(verb).items()} | IRREGULAR


def _base(word: str, following: str, *, plain: bool) -> str | None:
    """The base form of the verb `word`, or None when it is no verb or, before `following`, more likely a noun."""
    if following == "of":
        return None
    if word in VERBS:
        return None if word in NOUNS and following in NOUN_LIKE_BEFORE else word
    base = None if plain else BASE_OF.get(word)
    if base is None:
        return None
    # "Changes to the API" is a noun, "Switched to uv" a verb.
    plural = word.endswith("s")
    return None if following in NOUN_LIKE_BEFORE and (plural or following not in VERB_BEFORE) else base


def imperative(phrase: str, *, plain: bool = False) -> str | None:
    """`phrase` as an order (`Fixed crash on exit` gives `Fix crash on exit`), or None when it is none.

    Only the leading verb is rewritten; nothing is added or left out but the words `this commit` and `also`. In prose
    (`plain`) a past tense or gerund is as often a description, so only base forms and `This commit adds` count.
    """
    whole = phrase.strip().rstrip(".;,:")
    text = RESTATEMENT.sub("", whole).strip()
    plain = plain and text == whole
    text = re.sub(r"^(?:please|also|and|then|now)\s+", "", text, flags=re.IGNORECASE)
    for negation in NEGATIONS:
        if text.lower().startswith(negation):
            bare = text[len(negation) :]
            rest = bare if bare.split(" ")[0].lower() in FAULTS else imperative(bare, plain=plain)
            return None if rest is None else f"Do not {rest[0].lower()}{rest[1:]}"
    words = text.split(" ")
    lead = 1 if len(words) > 2 and words[0].lower() in ADVERBS else 0
    if len(words) < lead + 2:
        return None
    base = _base(words[lead].lower(), words[lead + 1].lower(), plain=plain)
    if base is None:
        return None
    words[lead] = base
    text = " ".join(words)
    return text[0].upper() + text[1:]


def points_back(text: str) -> bool:
    """Whether the phrase leans on something said before (`it`, `these`), so that it cannot stand alone."""
    return POINTS_BACK.search(text) is not None


def _is_order(part: str) -> bool:
    word = part.split(" ", 1)[0].lower()
    return word in VERBS and len(part.split()) >= 3 and not points_back(part)


def split_orders(order: str) -> list[str]:
    """`Add X to Y and remove Z from W` as two orders; anything less clear stays one."""
    parts = re.split(r"\s*(?:, and|;| and|, then|,) (?=[a-z]+ )", order)
    if len(parts) == 1 or not all(_is_order(part) for part in parts):
        return [order]
    return [part[0].upper() + part[1:] for part in parts]
