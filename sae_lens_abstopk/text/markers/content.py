"""How concrete, technical or vivid a text is, and of which kind."""

import re
from functools import cache

from sae_lens_abstopk.text.markers.text_parts import Marker, TextParts, density, found_in, word_share
from sae_lens_abstopk.text.words import FUNCTION_WORDS

_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-zA-Z'’]+(?: [A-Z][a-zA-Z'’]+)*")
_ABSTRACT = re.compile(
    r"....(?:tions?|sions?|ments?|ity|ities|ness|ance|ence|ances|ences|ism|isms|ship|ology|ologies)$"
)
_TECHNICAL = re.compile(
    r"...(?:ology|ological|ometric|ometry|ization|isation|izations|ize|ized|izing|ise|ised|istic|istics|ivity|ability|"
    r"ibility|ility|ation|ative|ational|ational|etic|otic|ytic|ical|ically|ential|entially|emic|meric|morphic|genic|"
    r"lytic|graphic|metrics?|scopy|tropic|plexity|ficacy|ance|sion|ment|ional|ure|ous|aneous)$"
)
_LISTED = """
    algorithm algorithms api architecture assay baseline bandwidth catalyst coefficient cognitive computational
    configuration constraint correlation data-driven database deployment derivative diagnostic domain dynamics
    empirical encryption enzyme epistemic framework frameworks frequency function gradient granular heuristic holistic
    hyperparameter hypothesis inference infrastructure integration interface interoperability iteration iterative
    kernel latency leverage leveraging linear logarithmic macro matrix metadata methodology methodological metric
    metrics modality molecular module neural node nodes optimal optimization optimize paradigm parameter parameters
    pathway pathways pedagogical pipeline polynomial probabilistic protocol protocols quantitative quantum regression
    runtime scalable schema script semantic semantics server spectrum stakeholder stakeholders stochastic strategic
    synergy synergistic syntax systemic taxonomy tensor threshold throughput topology trajectory utilization utilize
    utilizing variable variables vector workflow
"""
_TERMS = frozenset(_LISTED.split())
_VAGUE = """
    thing, things, stuff, something, somehow, somewhat, various, many, several, some, certain, different, diverse,
    multiple, numerous, a number of, a variety of, a range of, a lot, lots of, sort of, kind of, type of, general,
    generally, often, sometimes, usually, typically, broad, broadly, aspects, aspect, factors, elements, areas, ways,
    approaches, methods, strategies, techniques, considerations, concepts, situations, perspectives, overall, etc,
    and so on, and more, other, others, relevant, particular, involve, involves, involving, related, associated,
    respective, appropriate, significant, considerable, tend, could, might, may, can vary, vary, depending"""
_LIKELY_NAMES = frozenset(["i", "i'm", "i've", "i'll", "i'd"])


@cache
def is_technical(word: str) -> bool:
    """Return whether a word is a technical term, or long with an ending of learned words."""
    return word in _TERMS or (len(word) >= 9 and _TECHNICAL.search(word) is not None)


def _technical(parts: TextParts) -> float:
    """Count technical terms, and other long words by half."""
    terms, long = parts.word_count(is_technical), parts.word_count(lambda word: len(word) >= 8)
    return parts.per_word(terms + long) / 2


def _names(parts: TextParts) -> float:
    found = [name for name in _NAME.findall(parts.text) if name.lower() not in _LIKELY_NAMES]
    return parts.per_word(len(found))


def _varied(parts: TextParts) -> float:
    """Return distinct by all content words of the first hundred words, so that length does not count."""
    first = [word for word in parts.words[:100] if word not in FUNCTION_WORDS]
    return len(set(first)) / len(first) if len(first) >= 10 else 0.5


def _vague(parts: TextParts) -> float:
    """Count vague words minus names and numbers."""
    return _vague_words(parts) - 0.5 * _names(parts) - 0.5 * _digits(parts)


_vague_words, _digits = density(_VAGUE), found_in(r"\b\d[\d.,]*\b(?![.)]\s)")
MARKERS = {
    "technical": Marker("technical terms", "plain words", _technical),
    "abstract": Marker("abstract nouns", "concrete words", word_share(lambda word: _ABSTRACT.search(word) is not None)),
    "vague": Marker("vague", "specific", _vague),
    "names": Marker("names", "no names", _names),
    "variety": Marker("varied words", "few different words", _varied),
    "examples": Marker(
        "gives examples",
        "no examples",
        density(
            """
                for example, for instance, such as, e.g, like a, including, example, examples, let's say, imagine, to
                illustrate, consider a, in this case, namely, say
            """
        ),
    ),
    "definition": Marker(
        "defines",
        "no definition",
        density(
            """
                refers to, means, is defined, defined as, known as, is called, is a type, is a form, is a kind,
                definition, is the process, consists of, the term, a type of, in other words, meaning
            """
        ),
    ),
    "sources": Marker(
        "cites sources",
        "no sources",
        density(
            """
                according to, study, studies, research, researchers, published, journal, evidence, survey, report,
                reported, statistics, source, sources, cited, et al, wikipedia, findings, data, percent, scientists
            """
        ),
    ),
    "dates": Marker(
        "dates",
        "no dates",
        found_in(
            r"\b(?:1[0-9]|20)\d\d\b|\b(?:January|February|March|April|June|July|August|September|October|November|December)\b"
        ),
    ),
    "feelings": Marker(
        "feelings",
        "no feelings",
        density(
            """
                feel, feels, feeling, feelings, felt, emotion, emotions, emotional, happy, sad, angry, love, loved,
                fear, afraid, joy, lonely, anxious, anxiety, excited, proud, ashamed, shame, guilt, grief, hurt,
                tears, cry, cried, heart, hope, hate, stress, stressed, worried, jealous, upset, passion
            """
        ),
    ),
    "story": Marker(
        "tells a story",
        "explains",
        density(
            """
                once upon, one day, suddenly, said, asked, replied, whispered, looked, walked, smiled, turned, eyes,
                face, hand, hands, voice, door, night, began, felt, stood, moment, room, laughed, heart, sighed,
                nodded, knew, dark, old, little, ran, sat, shouted, stared, tears, woke, watched
            """
        ),
    ),
    "vivid": Marker(
        "vivid description",
        "plain description",
        density(
            """
                gentle, golden, soft, softly, silver, shimmering, glowing, gleaming, whisper, whispers, whispered,
                shadows, shadow, moon, moonlight, sky, stars, sun, sunlight, breeze, wind, sea, waves, dance, dancing,
                dream, dreams, ancient, silent, silence, scent, crimson, bright, warm, cold, velvet, echo, echoes,
                flames, fire, light, darkness, deep, beneath, forest, river, mountains, lush, delicate, swirling,
                tapestry, vibrant, wild, soul
            """
        ),
    ),
    "letter": Marker(
        "a letter",
        "no letter",
        density(
            """
                dear, sincerely, regards, yours truly, subject, best regards, to whom, kind regards, warm regards, hi,
                hello, yours faithfully, signed, re, cc, attached, i am writing, looking forward
            """
        ),
    ),
    "greeting": Marker(
        "greets",
        "no greeting",
        lambda parts: float(
            parts.joined.startswith(
                (" hello ", " hi ", " hey ", " good morning ", " greetings ", " welcome ", " dear ", " hi there ")
            )
        ),
    ),
}
