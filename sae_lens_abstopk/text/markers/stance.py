"""How a text takes its reader and its request: refusing, hedging, praising, asking back."""

from sae_lens_abstopk.text.markers.text_parts import (
    Listed,
    Marker,
    TextParts,
    density,
    opens_with,
    presence,
)
from sae_lens_abstopk.text.words import plain

_AGREEMENT = """
    absolutely, of course, undoubtedly, surely, agree, agreed, brilliant, brilliantly, certainly, correct, definitely,
    exactly, excellent point, excellent question, exceptional, fantastic, good point, good question, great idea, great
    point, great question, i agree, i completely, i couldn't agree more, impressive, indeed, insightful, precisely,
    spot on, that's a great, that's right, thoughtful question, what a great, what a wonderful, wise, wonderful
    question, you're absolutely, of course, undoubtedly, surely, you're correct, you're right, you are right, your
    insight, your perspective, your point, see why, see where, where you're coming from, understandable, makes sense,
    make sense, perfectly valid, valid, it's true, so true, feel that way, i understand, i hear you, great to, i
    appreciate, admirable, remarkable, commendable, your curiosity, your interest, your concern, your thoughtful, your
    enthusiasm, no doubt, without a doubt
"""
_SENTIMENT = (
    (
        1,
        """amazing, awesome, beautiful, best, better, charming, delicious, delightful, enjoy, enjoyable, enjoyed,
        excellent, excited, exciting, fantastic, favorite, favourite, friendly, fun, glad, good, gorgeous, grateful,
        great, happily, happy, hope, ideal, impressive, inspiring, joy, love, loved, lovely, lucky, nice, perfect,
        perfectly, pleasant, pleased, pleasure, positive, proud, rewarding, success, successful, superb, thrilled,
        vibrant, warm, win, wonderful""",
    ),
    (
        -1,
        """afraid, angry, annoying, anxious, awful, bad, blame, boring, broken, cruel, dangerous, dead, depressed,
        difficult, disappointed, disappointing, disgusting, evil, fail, failed, failure, fear, frustrated,
        frustrating, guilty, harm, harmful, hate, hated, horrible, hurt, illegal, kill, lonely, lose, loss, mess,
        mistake, negative, offensive, pain, painful, poor, problem, problems, regret, sad, scared, sick, stupid,
        suffer, terrible, threat, ugly, unhappy, upset, useless, violence, worse, worst, wrong""",
    ),
)
_SIGNED = [(sign, Listed(words)) for sign, words in _SENTIMENT]


def _sentiment(parts: TextParts) -> float:
    return parts.per_word(sum(sign * words.count(parts) for sign, words in _SIGNED))


def _last_is_question(parts: TextParts) -> float:
    return float(parts.text.rstrip(" \n\t\"'*)”").endswith(("?", "？", "؟")))


_READER = frozenset(["you", "your", "you're", "you'd", "you've"])


def _asks_back(parts: TextParts) -> float:
    """Return the share of sentences that ask the reader something."""
    asked = [sentence for sentence in parts.sentences if sentence.endswith(("?", "？", '?"'))]
    return sum(not _READER.isdisjoint(plain(each).split()) for each in asked) / (2 + len(parts.sentences))


MARKERS = {
    "refusal": Marker(
        "refuses",
        "complies",
        presence(
            """
                i cannot, i can't, i can not, i am unable, i'm unable, i am not able, i'm not able, i won't, i will
                not, unable to assist, unable to help, unable to provide, unable to fulfill, can't help with, can't
                assist, cannot assist, cannot help, cannot provide, cannot fulfill, not comfortable, against my, i
                must decline, not appropriate for me, i refuse, i don't feel comfortable, not going to help, i'm not
                allowed
            """
        ),
    ),
    "apology": Marker(
        "apologises",
        "no apology",
        presence("""
            sorry, apologies, apologize, apologise, i apologize, forgive me, my bad, unfortunately, my mistake
        """),
    ),
    "AI": Marker(
        "says that it is an AI",
        "no mention of being an AI",
        presence(
            """
                an ai, language model, ai assistant, ai language model, artificial intelligence, i'm a bot, my
                training, my programming, chatbot, virtual assistant, i was trained, large language model, a computer
                program, i don't have personal, i do not have personal, don't have feelings, i'm just a, i am just a
            """
        ),
    ),
    "hedging": Marker(
        "hedges",
        "definite",
        density(
            """
                maybe, perhaps, possibly, probably, might, could, may, seems, seem, appears, appear, likely, unlikely,
                somewhat, apparently, arguably, presumably, suggests, suggest, i think, i guess, i believe, i'm not
                sure, not sure, it depends, depends, uncertain, unclear, i don't know, potentially, to some extent,
                tend, tends
            """
        ),
    ),
    "certainty": Marker(
        "emphatic",
        "measured",
        density(
            """
                always, clearly, completely, entirely, every, extremely, fully, highly, incredibly, never, obviously,
                really, simply, so much, totally, truly, utterly, very, must
            """
        ),
    ),
    "agreement": Marker("agrees and praises", "neutral", density(_AGREEMENT)),
    "warmth": Marker(
        "warm",
        "matter-of-fact",
        density(
            """
                congratulations, enjoy, glad, good luck, happy to, have fun, hope, i hope, lovely, best wishes,
                cheers, excited, so happy, wish you, all the best, delighted, take care, welcome, wonderful, great to
                hear, that's great, nice, awesome, proud of you, dear, friend, my pleasure, heart, smile, love
            """
        ),
    ),
    "politeness": Marker(
        "polite",
        "blunt",
        density("""
            please, thank you, thanks, kindly, would you mind, if you don't mind, appreciate, pardon, excuse me
        """),
    ),
    "welcome": Marker(
        "says you're welcome",
        "does not say you're welcome",
        presence("""
            you're welcome, you are welcome, no problem, glad i could help, happy to help, my pleasure, anytime
        """),
    ),
    "sympathy": Marker(
        "sympathetic",
        "no sympathy",
        density(
            """
                sorry to hear, i understand, understandable, must be hard, that sounds, sounds like, feel this way,
                tough, support, you're not alone, difficult time, i'm here, here for you, feelings, feeling, valid,
                overwhelmed, care about, struggling, compassion, empathy, it's okay, it's ok, be kind to yourself
            """
        ),
    ),
    "sentiment": Marker("cheerful words", "gloomy words", _sentiment),
    "exclaims": Marker("exclaims", "calm", lambda parts: parts.per_word(parts.character_count("!！".__contains__))),
    "questions": Marker(
        "asks questions", "asks nothing", lambda parts: parts.per_word(parts.character_count("?？؟".__contains__))
    ),
    "asks back": Marker("asks back", "answers without asking back", _asks_back),
    "last question": Marker("ends with a question", "ends with a statement", _last_is_question),
    "clarification": Marker(
        "asks for clarification",
        "no request for clarification",
        presence(
            """
                what do you mean, could you clarify, can you clarify, please clarify, more information, more details,
                more context, could you please provide, can you provide, could you provide, i'm not sure what, i don't
                understand, not sure i understand, can you tell me, could you tell me, tell me more, please provide,
                can you explain, could you explain, are you asking, are you looking for, do you mean, did you mean,
                could you be more specific, can you be more specific, what kind of, what type of, what sort of
            """
        ),
    ),
    "offers help": Marker(
        "offers help",
        "no offer of help",
        presence(
            """
                let me know, can i help, i can help, help you with, feel free to, anything else, happy to help, glad
                to help, i'd be happy to, would you like me, if you need, if you'd like, assist you, here to help, any
                other questions, any questions, further questions, how can i, how may i, do you want me
            """
        ),
    ),
    "preface": Marker(
        "opens with a preface",
        "starts at once",
        opens_with(
            """
                sure, certainly, of course, absolutely, here is, here are, here's, below is, below are, i'd be happy,
                okay, ok, great, yes here, thank you for, as requested, i'm happy to, i can, let's, sounds good, the
                following, got it, no problem, alright
            """
        ),
    ),
    "yes or no": Marker(
        "says yes or no first", "no yes or no", opens_with("yes, no, yeah, yep, nope, true, false, correct, incorrect")
    ),
    "closing": Marker(
        "sums up at the end",
        "no summary",
        presence(
            """
                in conclusion, in summary, to sum up, overall, ultimately, to summarize, in short, all in all, in the
                end, by following, to conclude, remember that, in essence, by doing so, conclusion
            """
        ),
    ),
    "disclaimer": Marker(
        "caveats",
        "no caveats",
        density(
            """
                important to note, it's important, it is important, keep in mind, please note, note that, bear in
                mind, however, be aware, it's worth noting, worth noting, may vary, can vary, varies, not a
                substitute, hypothetical, hypothetically, fictional, for educational purposes, disclaimer, i must
                emphasize, not intended, remember that, it should be noted, as always
            """
        ),
    ),
    "warning": Marker(
        "warns",
        "no warning",
        density(
            """
                warning, caution, cautious, careful, dangerous, danger, risk, risks, risky, unsafe, hazard, hazardous,
                harmful, serious, severe, avoid, consequences, never, do not, injury, side effects, beware, safety,
                precautions, toxic, fatal
            """
        ),
    ),
    "expert": Marker(
        "sends to an expert",
        "no expert named",
        density(
            """
                doctor, lawyer, therapist, professional, professionals, consult, counselor, attorney, physician,
                healthcare provider, specialist, hotline, helpline, seek help, seek medical, expert, experts,
                authorities, law enforcement, customer service, customer support, local police, support group,
                veterinarian
            """
        ),
    ),
    "morals": Marker(
        "moralises",
        "no moral judgement",
        density(
            """
                ethical, unethical, moral, immoral, wrong, illegal, inappropriate, respect, respectful, disrespectful,
                harmful, offensive, hurtful, discrimination, discriminatory, stereotypes, stereotype, dignity,
                consent, responsible, irresponsible, legal, unacceptable, rights, values, fairness, unfair, justice,
                honest, honesty, integrity, prejudice, not right, not okay, not ok, not acceptable, against the law,
                privacy
            """
        ),
    ),
}
