"""Who speaks in a text: an adviser, someone with opinions, a joker, a seller."""

from sae_lens_abstopk.text.markers.text_parts import Marker, density, first_words

MARKERS = {
    "advice": Marker(
        "gives advice",
        "no advice",
        density(
            """
                should, recommend, recommended, suggest, try, consider, advise, make sure, ought to, need to, have to,
                best to, a good idea, you could, you might want, you may want, you can, i'd, tip, tips, be sure,
                ensure
            """
        ),
    ),
    "opinion": Marker(
        "gives an opinion",
        "impersonal",
        density(
            """
                i think, i believe, in my opinion, i feel, personally, i'd say, my favorite, my view, i like, i love,
                i hate, i prefer, i enjoy, i agree, i disagree, i would, i'd, i guess, i don't like, i don't think
            """
        ),
    ),
    "experience": Marker(
        "speaks of itself",
        "nothing about itself",
        density(
            """
                i was, i had, i've been, i have been, my wife, my friend, my husband, my mom, my dad, my family, my
                job, when i, i used to, i went, i remember, i grew up, i live, i work, my life, i've had, i got, i
                just
            """
        ),
    ),
    "humour": Marker(
        "jokes",
        "serious",
        density(
            """
                haha, hahaha, lol, joke, jokes, joking, funny, hilarious, laugh, laughs, laughed, kidding, silly, pun,
                punchline, witty, comedy, giggle, grinning, humor, humorous, prank, goofy, chuckle, ha
            """
        ),
    ),
    "swearing": Marker(
        "swears",
        "clean language",
        density(
            """
                fuck, fucking, fucked, shit, bullshit, damn, hell, ass, asshole, bitch, bastard, crap, dick, idiot,
                idiots, stupid, dumb, moron, piss, pissed, jerk, suck, sucks, loser, whore, slut, pussy, cunt, scum
            """
        ),
    ),
    "promotion": Marker(
        "promotional",
        "factual",
        density(
            """
                discover, experience, perfect for, unique, ultimate, introducing, don't miss, unlock, elevate,
                must-have, exclusive, stunning, premium, transform, unforgettable, revolutionary, amazing, incredible,
                join us, look no further, innovative, cutting-edge, high-quality, get ready, vibrant, testament,
                unparalleled
            """
        ),
    ),
    "imperatives": Marker(
        "instructs",
        "describes",
        first_words(
            """
                add, adjust, allow, apply, ask, attach, avoid, be, begin, block, boil, bring, build, buy, call,
                change, check, choose, clean, click, combine, connect, consider, contact, continue, cook, create, cut,
                decide, define, describe, determine, develop, do, don't, download, drain, drink, eat, encourage,
                engage, ensure, enter, establish, explain, explore, find, focus, follow, gather, get, give, go, heat,
                help, hold, identify, implement, include, install, join, keep, learn, leave, let, limit, listen, look,
                maintain, make, measure, mix, monitor, move, never, offer, open, organize, pay, place, plan, play,
                pour, practice, prepare, press, provide, pull, push, put, read, reduce, remember, remove, repeat,
                replace, research, rest, review, run, save, search, seek, select, sell, send, serve, set, share, show,
                sign, speak, spend, stand, start, stay, stir, stop, take, talk, tell, test, think, try, turn,
                understand, use, visit, wait, walk, wash, watch, wear, work, write
            """
        ),
    ),
}
