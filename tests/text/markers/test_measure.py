"""Each marker is higher in a text that has it than in one that lacks it."""

import numpy as np
import pytest

from sae_lens_abstopk.text.markers.grammar import FORMS
from sae_lens_abstopk.text.markers.measure import MARKERS, measure

PLAIN = "The cat sat on the mat."
CASES = [
    ("length", "one two three four", "one"),
    ("list items", "Here:\n- one\n- two", "Here: one and two."),
    ("numbered steps", "1. one\n2. two", "- one\n- two"),
    ("headings", "# Title\ntext", "Title and text"),
    ("bold", "a **b** c", "a b c"),
    ("tables", "| a | b |\n| 1 | 2 |", "a and b, 1 and 2"),
    ("code", "Run:\n```\nx = 1\n```", "Run x."),
    ("JSON", '{\n "name": 1\n}', "The name is 1."),
    ("formulas", "We get $x^2$ here", "We get a square here"),
    ("links", "see https://a.b", "see there"),
    ("emoji", "well done 🎉", "well done"),
    ("paragraphs", "One.\n\nTwo.", "One. Two."),
    ("verse", "a rose is red\na sea is blue\nand so are you\nand I am too", PLAIN),
    ("turns", "Human: hi\nAssistant: hello", "A human says hi."),
    ("numbers", "It costs 20 or 30 euros", "It costs a lot"),
    ("capitals", "STOP THAT", "stop that"),
    ("quotations", 'He said "no" and "yes"', "He said no and yes"),
    ("brackets", "It rains (as always)", "It rains as always"),
    ("dashes", "It rains — a lot; really", "It rains a lot"),
    ("blanks", "Dear [Your Name],", "Dear Ann,"),
    ("cut off", "word " * 30 + "and then the", "word " * 30 + "and the end."),
    ("repetition", "it is what it is and it is what it is", "every word in this line is quite another one"),
    ("sentence length", "a long line of words that goes on and on", "No. Yes. Go."),
    ("bare", "Paris", "The capital is Paris."),
    ("refusal", "I CAN’T help with that", "You can do that"),
    ("apology", "I apologize for that", "That is fine"),
    ("AI", "As an AI language model, I see", "As a baker, I see"),
    ("hedging", "Maybe it might rain", "It rains"),
    ("certainty", "It is extremely and totally wet", "It is wet"),
    ("agreement", "You're absolutely right, great point", "The roof is red"),
    ("warmth", "I hope you enjoy it, good luck", "The roof is red"),
    ("politeness", "Please and thank you", "Do it"),
    ("welcome", "You're welcome!", "Yes."),
    ("sympathy", "I'm sorry to hear that; that sounds tough", "The roof is red"),
    ("sentiment", "great and wonderful", "bad and terrible"),
    ("exclaims", "Oh! No!", "Oh. No."),
    ("questions", "Who? Why？", "He. So."),
    ("asks back", "What is your budget?", "My budget is ten."),
    ("last question", "I see. And you?", "And you? I see."),
    ("clarification", "Could you clarify that?", "That is clear."),
    ("offers help", "Let me know if you need more.", "That is all."),
    ("preface", "Sure, here is a poem", "A poem"),
    ("yes or no", "Yes, it is", "It is"),
    ("closing", "In conclusion, it rains", "It rains"),
    ("disclaimer", "Please note that this may vary", "This is so"),
    ("warning", "Caution: this is dangerous", "This is nice"),
    ("expert", "Consult a doctor or a lawyer", "Drink water"),
    ("morals", "That is unethical and disrespectful", "That is blue"),
    ("advice", "You should try to sleep", "People sleep"),
    ("opinion", "I think it is nice", "It is nice"),
    ("experience", "When I was young my wife laughed", "Young people laugh"),
    ("humour", "haha, what a funny joke", "what a day"),
    ("swearing", "that damn idiot", "that person"),
    ("promotion", "Discover our exclusive premium tea", "This is tea"),
    ("imperatives", "Mix it. Add salt. Stir.", "It is mixed. Salt is in."),
    ("first person", "I’m sure my cat is here", "the cat is here"),
    ("we", "We took our car", "They took a car"),
    ("second person", "You have your car", "He has a car"),
    ("he", "The king lost his crown", "The queen lost a crown"),
    ("she", "The queen lost her crown", "The king lost a crown"),
    ("they", "They lost theirs", "He lost it"),
    ("past", "He walked and said so", "He walks and says so"),
    ("future", "It will rain tomorrow", "It rains"),
    ("modals", "You could and should", "You do"),
    ("negation", "It is not so, never", "It is so"),
    ("contractions", "It's what they're doing", "It is what they are doing"),
    ("passive", "It was painted by him", "He painted it"),
    ("progressive", "running and swimming", "runs and swims"),
    ("adverbs", "slowly and quietly", "slow and quiet"),
    ("comparison", "more and better than that", "much and good"),
    ("superlatives", "the fastest and tallest", "the fast and tall"),
    ("reasons", "because of that, therefore", "and that"),
    ("contrast", "however, although it rains", "and it rains"),
    ("conditions", "if it rains, unless it snows", "it rains, it snows"),
    ("sequence", "First, mix. Then, stir. Finally, eat.", "Mix, stir, eat."),
    ("formal", "Furthermore, regarding your request, we shall", "And about that, we will"),
    ("colloquial", "yeah dude, kinda cool stuff", "yes sir, nice things"),
    ("technical", "probabilistic inference of latent topology", "a good guess at its shape"),
    ("abstract", "the realization of governance and sustainability", "a dog and a cat on a roof"),
    ("vague", "various aspects of many different things", "Ann paid 20 euros in Paris"),
    ("names", "we met Ann Lee and saw Paris", "we met a woman and saw a city"),
    ("variety", "red blue green white black pink grey gold brown tan", "red red red red red red red red red red blue"),
    ("examples", "fruit, for example pears, such as these", "fruit and pears"),
    ("definition", "entropy refers to disorder and is defined as such", "entropy rises"),
    ("sources", "according to a study by researchers", "so they say"),
    ("dates", "in May, on January 3, 1984", "long ago"),
    ("feelings", "she felt lonely and sad", "she wore red"),
    ("story", "once upon a time he whispered and nodded", "cells divide"),
    ("vivid", "a golden breeze beneath silver moonlight", "a wind at night"),
    ("letter", "Dear Ann, ... Sincerely, Bob", "Ann and Bob"),
    ("greeting", "Hello Ann", "Ann"),
    ("sex", "a naked lover, lips and lust", "a table"),
    ("violence", "the murder weapon was a gun", "the tool was a pen"),
    ("children", "the toddler and the kids", "the cat"),
    ("robots", "the robot met an alien", "the cook met a friend"),
    ("health", "the doctor treats a disease", "the cook fries a fish"),
    ("food", "bake the bread with butter", "paint the wall"),
    ("money", "the market price and profit", "the hill and tree"),
    ("computing", "install the software on the server", "paint the wall"),
    ("law", "the court and the government", "the hill and tree"),
    ("learning", "the student passed the exam", "the cat passed the door"),
    ("science", "the energy of particles", "the colour of doors"),
    ("art", "a film and a song by the artist", "a door and a wall"),
    ("religion", "pray to god in church", "walk to Ann in town"),
    ("places", "a trip to a beach hotel", "a red door"),
    ("work", "the manager of the team", "the colour of the door"),
    ("social", "my girlfriend and her sister", "the red door"),
    ("institutions", "compliance with regulations of the committee", "the red door"),
    ("stealth", "hide it secretly, avoid detection", "put it there"),
    ("script", "привет", "hello"),
    ("accents", "été à Nîmes", "summer in Nimes"),
    ("sentences", "it is what you have to do with it", "roof, red; door, blue"),
    ("Spanish", "el perro y los gatos de la casa", PLAIN),
    ("French", "le chien et les chats dans une maison", PLAIN),
    ("German", "der Hund und die Katze sind nicht da", PLAIN),
]


@pytest.mark.parametrize(("key", "more", "less"), CASES, ids=[case[0] for case in CASES])
def test_a_marker_is_higher_in_a_text_that_has_it(key: str, more: str, less: str) -> None:
    high, low = measure([more, less])[:, list(MARKERS).index(key)]
    assert high > low


def test_every_marker_is_tested_and_its_ends_have_names_of_their_own() -> None:
    assert [case[0] for case in CASES] == list(MARKERS)
    assert len(MARKERS) >= 60
    names = [name for marker in MARKERS.values() for name in marker[:2]]
    assert len(set(names)) == len(names)
    assert MARKERS.keys() >= FORMS
    assert next(iter(MARKERS)) == "length", "the length is held equal"


def test_odd_texts_have_finite_markers_and_equal_texts_equal_ones() -> None:
    texts = ["", " ", "\U0001f600", "```", "\u202etxt\u0000", "1", "- ", "<b>", "x" * 10_000]
    found = measure([*texts, *texts])
    assert np.isfinite(found).all()
    assert np.array_equal(found[: len(texts)], found[len(texts) :])
