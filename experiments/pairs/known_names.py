"""
Markers that a language model's names of features stand for, written before names of ours were compared with them.

A name has the markers of the first rule that its text matches: with ``+`` the feature has more of the marker, with
``-`` less. A name that matches none is not in the list.
"""

import re

BRIEF = "-length +bare -paragraphs -list items -sentence length"
LONG = "+length -bare +paragraphs +list items +sentence length"
ASKS = "+questions +asks back +last question +clarification"
ANSWERS = "-questions -asks back -last question -clarification"
REFUSES = "+refusal +apology +AI +morals +expert"
COMPLIES = "-refusal -apology -AI -morals -expert"
FORMATTED = "+list items +numbered steps +headings +bold +paragraphs"
PLAIN = "-list items -numbered steps -headings -bold -paragraphs"
STORY = "+story +vivid +past +he +she +quotations +verse -second person"
NO_STORY = "-story -vivid -past -he -she -quotations -verse +second person"
SURE = "-hedging -modals -disclaimer +certainty"
HEDGED = "+hedging +modals +disclaimer -certainty"
RULES = (
    (r"json", "+JSON +code"),
    (r"yes\W{0,3}/\W{0,3}no|single-label", "+yes or no +bare -length"),
    (r"mid-sentence|truncated", "+cut off"),
    (r"children", "+children +social"),
    (r"robots", "-robots"),
    (r"you're welcome", "-welcome -warmth -politeness"),
    (r"non.profane", "-swearing -colloquial -exclaims"),
    (r"male protagonist", "+he"),
    (r"humor", "-humour -exclaims -emoji -colloquial"),
    (r"well-wishing", "+warmth +exclaims +agreement +sentiment +welcome"),
    (r"anything else", "+offers help +questions +asks back +last question"),
    (r"explicitly offers help", "+offers help +questions +last question"),
    (
        r"(?:omits?|does not include|without).*(?:preface|pleasantries|meta.?commentary|small talk)",
        "-preface -warmth -offers help -exclaims -first person -disclaimer -closing -length -AI",
    ),
    (r"an ai\b", "+AI +refusal +apology +first person"),
    (
        r"(?:prose|narrative).*(?:not|rather|without).*list|no lists|not provide lists|no markdown|not use markdown",
        PLAIN,
    ),
    (r"markdown|lists?/steps|lists or steps|uses lists|lists, descriptors", FORMATTED),
    (r"(?:one|single).*(?:instead of|not|rather than) multiple options", PLAIN + " -length"),
    (r"multiple options|options and meta", FORMATTED + " +length +questions"),
    (r"not refuse|(?:instead of|rather than|not|than) (?:hedging or )?refus|fulfills|complies with", COMPLIES),
    (r"refus(?:es|al)|apologies", REFUSES),
    (
        r"(?:without|not|instead of|rather than|than|avoids).{0,40}(?:ask|clarif|tell me more|preference question)",
        ANSWERS,
    ),
    (r"clarif|'why'|follow-up question about", ASKS),
    (r"without elaboration|no elaboration|little or no|brief|terse|concise|succinct|minimal|short\b", BRIEF),
    (r"(?:cautious|hedg|uncertain|tentative|non-?committal)", HEDGED),
    (r"definitive|assertive|prescriptive", SURE + " +advice +imperatives"),
    (r"(?:not|no|avoids).*(?:creative|imaginative|fiction|narrative|storytelling)", NO_STORY),
    (r"creative|imaginative|narrative", STORY),
    (r"(?:not|no) .*sexual", "-sex"),
    (r"sexual|erotic", "+sex"),
    (r"getting caught|conceal", "+stealth +violence +advice"),
    (r"omits reasoning", "-reasons -length -contrast -conditions"),
    (r"step-by-step", "+imperatives +advice +sequence +list items +numbered steps"),
    (r"not provide actionable|no actionable", "-advice -imperatives -list items -second person"),
    (r"personal opinions", "-opinion -experience -first person"),
    (r"emotional support", "-sympathy -feelings +advice"),
    (r"not express emotions", "-feelings -morals -sentiment -exclaims"),
    (r"emotionally charged", "+feelings +morals +swearing +exclaims +certainty"),
    (
        r"formal|institutional|bureaucratic",
        "+formal +institutions +abstract +technical +passive",
    ),
    (r"specific tools", "-names -computing -links -technical"),
    (r"generic or high-level|without specific", "+vague -names -numbers -examples"),
    (r"specific|concrete", "-vague +names +numbers +examples +advice +imperatives +length"),
    (r"verbose|elaborat|detailed|longer|explanatory", LONG),
)


def known_markers(name: str) -> dict[str, int]:
    """Return 1 for the markers that a named feature has more of, -1 for those that it has less of."""
    markers = next((found for pattern, found in RULES if re.search(pattern, name.lower())), "")
    return {key.strip(): 1 if sign == "+" else -1 for sign, key in re.findall(r"([+-])([^+-]+)(?=\s[+-]|$)", markers)}
