"""Write the corpus of `abstopk tokens`: text that SmolLM2-135M-Instruct samples at temperature 1.

    python training_configs/text/make_corpus.py MODEL_FOLDER --out smollm2_samples.jsonl.gz

Each line is ``{"text": ..., "prompt": i}``, where ``i`` is the index into ``prompts()``. Some of the prompts are
openings that the model continues (the opening is kept in the text), the others are requests in the chat format (only
the answer is kept). One seed fixes the run for a given torch version and thread count.
"""

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

OPENINGS = """\
The old lighthouse keeper had not spoken to anyone for three weeks when
She opened the letter slowly, because she already knew
He had promised his brother that he would never go back to
My grandmother used to say that the best time to plant a tree
The verdict was read at noon, and the courtroom
In the spring of 1843 the river rose so high that
Nobody in the village believed the boy when he said
"You can't be serious," she said. "We have only
"I'm sorry," he said quietly, "but I really think
The two sisters had never agreed about anything, and
It was the worst meal I have ever paid for.
It was the best holiday that we have ever had.
I loved every minute of this film:
I hated every minute of this film:
The hotel was clean and quiet, but the staff
We bought this vacuum cleaner in June and
Five stars. The delivery was
One star. The product
After two years with this phone I can say that
The concert began an hour late and
Yesterday the government announced that
Police in the northern city said on Monday that
Shares in the company fell sharply after
The home side won four to one, thanks to
The weather service expects heavy rain across
A new study of more than two thousand adults suggests
Scientists have long wondered why birds
The senator denied that she had
Voters in the small island nation will
The strike entered its third week as
The heart is a muscular organ that
Photosynthesis is the process by which
The French Revolution began in
In economics, supply and demand
A triangle whose three sides are equal
The water cycle describes how
DNA carries the instructions that
Gravity is the force by which
Glaciers form where snow
The Roman army was organised into
To prove that the square root of two is irrational, suppose that
Let x be a real number greater than zero. Then
If a train leaves the station at nine o'clock and travels at sixty miles an hour,
The probability that both coins land heads is
The theory was first proposed by
First, preheat the oven to 180 degrees. Then
To change a flat tyre, you will need
The easiest way to learn a new language is
Before you prune a rose bush, always
To install the package, open a terminal and run
def mean(values):
    \"\"\"Return the arithmetic mean of a list of numbers.\"\"\"
import numpy as np

# Load the measurements and plot
class Stack:
    def __init__(self):
SELECT customer_id, COUNT(*) FROM
<html>
  <head>
    <title>
{"name": "Alice", "age": 31, "city":
Dear Sir or Madam, I am writing to complain about
Dear Anna, thank you so much for
Hi team, just a quick reminder that
To whom it may concern: I am pleased to recommend
Minutes of the meeting held on Tuesday. Present:
The committee shall consist of seven members, who
No person shall be required to
The tenant agrees to pay the landlord
Section 4. Any violation of this rule
This licence grants you the right to
The patient presented with fever and
Take one tablet twice a day, unless
Regular exercise lowers the risk of
Most headaches are harmless, but
The nurse checked his chart and told him that
The moon rises over the quiet hills,
O wind that wanders through the empty street,
There once was a baker from Leeds
Roses are red, and the winter is
Sing to me of the sailors who
Once upon a time there was a clever fox who
A mouse and a lion met one morning by the
The king had three daughters, and the youngest
Long ago, before the mountains had names,
The wolf knocked at the door and said
I think that we ought to be honest about
There are three reasons to doubt this claim. First,
Critics of the plan argue that
Supporters of the plan argue that
On the one hand, cities are expensive; on the other,
Q: What is the capital of France?
A:
Q: Why is the sky blue?
A:
Question: Is it possible to live without sleep?
Answer:
Interviewer: How did you start your career?
Actor:
Customer: My order has not arrived.
Agent:
MOTHER: Where have you been?
SON:
The cat sat on the windowsill and watched
The dogs ran across the field, and their owner
Her hands were cold, and her voice
His hands were warm, and his voice
Tomorrow we will travel to
Last summer we travelled to
Every morning I wake up and
Every morning they woke up and
There is absolutely no doubt that
It is possible, though far from certain, that
Maybe we should wait until
The room was enormous, with a ceiling
The box was tiny, no bigger than
The coffee was so hot that
The lake was so cold that
She is a doctor who works in
He is a doctor who works in
They are engineers who work on
The boys are playing in the garden while
The girl is playing in the garden while
We refuse to accept
We gladly accept
Please be so kind as to
Shut the door and
According to the map, the treasure lay
The spaceship landed softly on the red plain, and
The detective looked at the footprints and
In the year 2150, nearly everyone
The robot asked the child why
Le petit garçon marchait dans la rue quand
La France est un pays qui
Il fait froid ce matin et
Bonjour, je m'appelle Marie et
Les enfants jouent dans le jardin pendant que
El mercado abre a las ocho y
Die Stadt liegt an einem Fluss, der
Title: The history of bread. Abstract:
Chapter One. The house at the end of the lane
Album review: on their third record the band
Match report: with ten minutes to play
Travel guide: the old port of
Obituary: he was born in
Weather: sunny at first, then
Recipe: lentil soup for four. Ingredients:
Ingredients: flour, butter, sugar,
Monday: feed the chickens. Tuesday:
The most common mistakes in chess are
In basketball, a player who
To play this song on the guitar, start with
The painting shows a woman who
The cathedral was built between
The bridge collapsed because
The experiment failed, yet
Although the soldiers were tired,
If I had known then what I know now,
The last thing that I remember is
"""

REQUESTS = (
    "Write a short story about {}.",
    "Explain {} to a ten-year-old.",
    "Give three arguments for and three against {}.",
    "Write a friendly email to a neighbour about {}.",
    "Write an angry letter about {}.",
    "Describe how people thought about {} a hundred years ago and how they think about it now.",
    "Write a dialogue between a woman and her father about {}.",
    "Write a news report about {}.",
    "Write a poem about {}.",
    "List common questions about {} and answer each.",
    "Tell me something surprising about {}, and say how certain you are.",
    "Write two reviews of a book about {}: one delighted, one disappointed.",
)

TOPICS = (
    "the sea",
    "learning to cook",
    "a lost dog",
    "electric cars",
    "a difficult exam",
    "winter in the mountains",
    "football",
    "moving to a new city",
    "old computers",
    "bees and honey",
    "a noisy hospital",
    "travelling by train",
    "money and saving",
    "friendship",
    "the planets",
    "public libraries",
)


def openings() -> list[str]:
    """Openings, one a line; indented or blank lines and answers belong to the line above."""
    blocks: list[str] = []
    for line in OPENINGS.splitlines():
        continues = line == "" or line.startswith((" ", "#", "A:", "Answer:", "Actor:", "Agent:", "SON:"))
        if continues:
            blocks[-1] += "\n" + line
        else:
            blocks.append(line)
    return [block.rstrip("\n") for block in blocks]


def prompts(tokenizer) -> list[tuple[str, str]]:
    """Pairs (what the model sees, what is kept of it in the text)."""
    requests = [request.format(topic) for request in REQUESTS for topic in TOPICS]
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": r}], tokenize=False, add_generation_prompt=True)
        for r in requests
    ]
    return [(opening, opening) for opening in openings()] + [(chat, "") for chat in chats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of SmolLM2-135M-Instruct, as `abstopk quickstart` makes it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("smollm2_samples.jsonl.gz"))
    parser.add_argument("--tokens", type=int, default=500_000, help="stop after this many tokens (default 500000)")
    parser.add_argument("--batch", type=int, default=160, help="samples drawn at a time (default 160)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16)
    todo = list(enumerate(prompts(tokenizer)))
    written = 0
    # mtime=0 keeps the compressed bytes a function of the text alone
    with open(args.out, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as out:
        while written < args.tokens:
            batch = rng.choices(todo, k=args.batch)
            seen = tokenizer([prompt for _, (prompt, _) in batch], return_tensors="pt", padding=True)
            sampled = model.generate(**seen, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=320)
            new = sampled[:, seen["input_ids"].shape[1] :]
            for (index, (_, kept)), ids in zip(batch, new, strict=True):
                text = kept + tokenizer.decode(ids, skip_special_tokens=True)
                written += len(tokenizer(text)["input_ids"])
                out.write((json.dumps({"text": text, "prompt": index}, ensure_ascii=False) + "\n").encode())
            print(f"{written:,} tokens", flush=True)


if __name__ == "__main__":
    main()
