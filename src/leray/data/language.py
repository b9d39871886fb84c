"""Whether texts are mostly English: a rough count, good enough for a warning."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORDS = """
a about am an and are as at be been but by can did do does for from get go got had has have he her
here him his how i i'd i'll i'm i've if in is it it's its just like me my no not of oh ok on one
or our out she so some that that's the their them then there they this to too up us was we well
were what when where which who why will with would yeah yes you you're your
"""

FUNCTION_WORDS = frozenset(_WORDS.split())
"""Words that hold English sentences together, as conversations use them."""

MIN_FUNCTION_WORDS = 0.2
"""Share of words that are function words, below which Latin-script text is not English: measured on
the samples in the tests, English chat has .69 (LoCoMo .45), German .06, French .04, Spanish .10."""

MIN_WORDS = 10
"""Different words in Latin letters, below which they say nothing of the language: a text that
repeats a few names or words has no function words in any language."""

MAX_SAMPLES = 2_000
"""Texts looked at, evenly spaced."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def mostly_not_english(texts: Sequence[str]) -> bool:
    """Whether most of the letters are of another script, or most of the words of another language.

    True where letters beyond U+024F (not Latin) are more than half of all letters; otherwise where,
    among words in Latin letters, fewer than `MIN_FUNCTION_WORDS` are English function words. Texts
    with fewer than 20 letters altogether, or fewer than `MIN_WORDS` different Latin words, say
    nothing: False. Letters and their marks count as one, and styled letters as plain ones.

    >>> mostly_not_english(["Wie geht es dir heute?", "Ich habe das schon gestern gesehen."])
    True
    """
    step = max(1, len(texts) // MAX_SAMPLES)
    sample = unicodedata.normalize("NFKC", "\n".join(texts[::step]))
    letters = [c for c in sample if c.isalpha()]
    if len(letters) < 20:
        return False
    num_latin = sum(c <= "\u024f" for c in letters)
    if num_latin < len(letters) / 2:
        return True
    words = [w.replace("’", "'") for w in _WORD.findall(sample.lower()) if w[0] <= "\u024f"]
    if len(set(words)) < MIN_WORDS:
        return False
    return sum(w in FUNCTION_WORDS for w in words) < MIN_FUNCTION_WORDS * len(words)
