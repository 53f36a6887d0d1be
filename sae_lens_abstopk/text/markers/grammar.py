"""Person, tense and style of a text's sentences. Function words are counted here; they are no names."""

import re

from sae_lens_abstopk.text.markers.text_parts import Listed, Marker, TextParts, density, word_share

_PASSIVE = re.compile(
    r" (?:is|are|was|were|be|been|being) (?:\w+ly )?"
    r"(?:\w+ed|made|given|taken|done|known|seen|found|held|written|shown|built) "
)
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|ll|d|m)$")
_SUPERLATIVE = re.compile(r"..est$")
_LISTED = """
    request interest forest honest harvest protest contest suggest invest guest quest chest west digest manifest
    modest latest arrest invest earnest
"""
_NOT_SUPERLATIVE = frozenset(_LISTED.split())
_LISTED_PAST = """
    was were had did said went came made took got saw knew thought told became left felt put brought began kept held
    wrote stood heard let meant set met ran paid sat spoke lay led read grew lost fell sent built understood drew
    broke spent cut rose drove bought wore chose found gave looked asked seemed turned
"""
_PAST = frozenset(_LISTED_PAST.split())


def _passive(parts: TextParts) -> float:
    return parts.per_word(len(_PASSIVE.findall(parts.joined)))


def _past(parts: TextParts) -> float:
    """Count past forms minus present ones."""
    return parts.per_word(parts.word_count(lambda word: word in _PAST or (word.endswith("ed") and len(word) > 4)))


FORMS = Listed("""
    capitals, dashes, brackets, quotations, sentence length, variety, abstract, sentences, first person, we,
    second person, they, past, future, modals, negation, contractions, passive, progressive, adverbs, superlatives
""").entries
"""Markers that count forms of words: evidence for others, and names only where no other is nearly as good."""
MARKERS = {
    "first person": Marker("speaks as I", "no I", density("i, me, my, mine, myself, i'm, i've, i'd, i'll")),
    "we": Marker("speaks as we", "no we", density("we, us, our, ours, ourselves, we're, we've, we'll, we'd, let's")),
    "second person": Marker(
        "addresses the reader",
        "does not address the reader",
        density("""
            you, your, yours, yourself, you're, you'll, you've, you'd, yourselves
        """),
    ),
    "he": Marker(
        "about a man",
        "no man in it",
        density(
            """
                he, him, his, himself, he's, he'd, man, men, boy, father, son, brother, husband, mr, king, guy, male,
                grandfather
            """
        ),
    ),
    "she": Marker(
        "about a woman",
        "no woman in it",
        density(
            """
                she, her, hers, herself, she's, she'd, woman, women, girl, mother, daughter, sister, wife, mrs, ms,
                queen, female, grandmother, lady
            """
        ),
    ),
    "they": Marker(
        "about them", "no them", density("they, them, their, theirs, themselves, they're, they've, they'll")
    ),
    "past": Marker("past tense", "present tense", _past),
    "future": Marker(
        "about the future",
        "not about the future",
        density(
            """
                will, shall, going to, won't, i'll, you'll, we'll, he'll, she'll, it'll, they'll, tomorrow, future,
                soon, upcoming
            """
        ),
    ),
    "modals": Marker("what one can do", "what is", density("can, could, would, should, may, might, able")),
    "negation": Marker(
        "negations",
        "no negations",
        density(
            """
                not, no, never, none, nothing, nobody, neither, nor, without, isn't, aren't, wasn't, weren't, don't,
                doesn't, didn't, can't, cannot, couldn't, won't, wouldn't, shouldn't, haven't, hasn't, hadn't, ain't
            """
        ),
    ),
    "contractions": Marker(
        "contractions", "no contractions", word_share(lambda word: _CONTRACTION.search(word) is not None)
    ),
    "passive": Marker("passive voice", "active voice", _passive),
    "progressive": Marker(
        "many -ing forms", "few -ing forms", word_share(lambda word: len(word) > 5 and word.endswith("ing"))
    ),
    "adverbs": Marker("many adverbs", "few adverbs", word_share(lambda word: len(word) > 4 and word.endswith("ly"))),
    "comparison": Marker(
        "compares",
        "no comparison",
        density(
            """
                more, most, less, least, than, better, best, worse, worst, similar, similarly, unlike, compared,
                comparison, whereas, while, bigger, larger, smaller, higher, lower, faster, difference, differences,
                versus, vs, same as
            """
        ),
    ),
    "superlatives": Marker(
        "superlatives",
        "no superlatives",
        word_share(
            lambda word: (
                (_SUPERLATIVE.search(word) is not None and word not in _NOT_SUPERLATIVE)
                or word in ("best", "worst", "most")
            )
        ),
    ),
    "reasons": Marker(
        "gives reasons",
        "no reasons",
        density(
            """
                because, since, therefore, thus, hence, so that, due to, as a result, reason, reasons, why,
                consequently, which means, this means, in order to, leads to, lead to, cause, causes, caused, given
                that, explains
            """
        ),
    ),
    "contrast": Marker(
        "weighs both sides",
        "one side only",
        density(
            """
                however, but, although, though, on the other hand, whereas, nevertheless, nonetheless, despite, in
                spite of, yet, conversely, instead, rather than, even though, while, both, either, pros, cons,
                balance, otherwise
            """
        ),
    ),
    "conditions": Marker(
        "conditions",
        "no conditions",
        density(
            """
                if, unless, whether, depending, depends, provided that, in case, as long as, assuming, when, otherwise
            """
        ),
    ),
    "sequence": Marker(
        "steps in order",
        "no order of steps",
        density(
            """
                first, firstly, second, secondly, third, thirdly, then, next, finally, lastly, step, steps, after
                that, afterwards, begin by, start by, once, last
            """
        ),
    ),
    "formal": Marker(
        "formal",
        "informal",
        density(
            """
                furthermore, moreover, therefore, thus, additionally, consequently, regarding, concerning, pursuant,
                hereby, shall, upon, whilst, aforementioned, notwithstanding, accordingly, respectively, herein, such,
                thereby, subsequently, hence, ensure, demonstrate, individuals, utilize, facilitate, sincerely,
                behalf, appropriate
            """
        ),
    ),
    "colloquial": Marker(
        "colloquial",
        "no slang",
        density(
            """
                yeah, yep, nope, gonna, wanna, gotta, kinda, sorta, stuff, guys, guy, cool, ok, okay, hey, dude, wow,
                oh, ah, um, uh, hmm, lots of, a lot, a bit, pretty much, kind of, sort of, like i, anyway, kids,
                buddy, man, folks, bro, crazy, totally, super, huh, ya, ain't, cause, whatever, right, well, just
            """
        ),
    ),
}
