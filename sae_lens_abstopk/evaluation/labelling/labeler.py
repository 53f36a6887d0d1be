"""Name two poles, and their relation, by a language model at an OpenAI-compatible endpoint."""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field
from typing_extensions import override

from sae_lens_abstopk.evaluation.results.records import Record
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.terminal import PassProgress

RELATIONS = ("opposites", "related", "unrelated", "one-sided")
KEY = "OPENAI_API_KEY"
ANSWERS = ".labels.jsonl"
"""Usual name of the cache, beside what was labelled."""
# addresses that never send the key in the clear
PRIVATE = r"https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)"
# rough, rather too high: tokens of an answer, characters per token
ANSWER_TOKENS, CHARACTERS_PER_TOKEN = 60, 3.5
RETRIES, TIMEOUT = 3, 120.0
BUSY = (429, 500, 502, 503, 504)


class LabelRecord(Record):
    """Names of the poles of a latent by a language model, and how the poles relate."""

    positive: str
    negative: str
    relation: str = Field(description="opposites, related, unrelated, or one-sided.")


class Sides(NamedTuple):
    """Excerpts of text of the two poles of one latent."""

    negative: Sequence[str]
    positive: Sequence[str]


class Question(NamedTuple):
    """How to ask about one kind of latents, and made-up latents to check the judge with."""

    template: Traversable
    """Jinja template, rendered with the lists of excerpts ``negative`` and ``positive``."""
    planted: Traversable
    """YAML list of cases with ``relation``, ``negative`` and ``positive``."""

    def cases(self) -> list[tuple[str, Sides]]:
        """Return the made-up latents: their relation, and their excerpts."""
        found = yaml.safe_load(self.planted.read_text(encoding="utf-8"))
        return [(case["relation"], Sides(case["negative"], case["positive"])) for case in found]


class AskingCost(NamedTuple):
    """Estimated cost of labelling: questions without and with a cached answer, and tokens."""

    requests: int
    cached: int
    prompt_tokens: int
    answer_tokens: int

    @override
    def __str__(self) -> str:
        return (
            f"This sends {self.requests} requests to the labeler ({self.cached} more are cached): about "
            f"{self.prompt_tokens:,} prompt tokens and {self.answer_tokens:,} output tokens."
        )


class Labeler:
    """
    A judge: ``model`` at ``endpoint`` (such as ``http://localhost:8000/v1``); answers go to the JSONL file ``cache``.

    ``prompt`` is a file with another template of the ``question``; it must request the same JSON. The API key, if any,
    comes from ``OPENAI_API_KEY``, is never written, and is sent only by https or to this machine.

    Raises:
        ConfigError: the address or the template is not valid, or the key would be sent in the clear.
    """

    def __init__(
        self, endpoint: str, model: str, *, question: Question, cache: Path, prompt: Path | None = None
    ) -> None:
        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"{KEY} has characters that no key has; set it to the key alone.")
        if not re.match(PRIVATE if key else r"https?://[^/]", endpoint):
            raise ConfigError(
                f"labeler={endpoint!r} must be a URL like http://localhost:8000/v1, and https elsewhere while {KEY} is "
                "set, because http would send the key in the clear."
            )
        self.endpoint, self.model, self._cache_file = endpoint.rstrip("/"), model, cache
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._planted, template = question.cases(), prompt or question.template
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        try:
            self._template = environment.from_string(template.read_text(encoding="utf-8"))
            self._template.render(negative=["a"], positive=["b"])
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            raise ConfigError(f"the labeler's prompt {prompt} cannot be used: {error}") from error
        self._answers: dict[str, str] = {}
        for line in cache.read_text(encoding="utf-8").splitlines() if cache.is_file() else ():
            with suppress(ValueError, KeyError, TypeError):  # a killed run may leave part of a line
                entry = json.loads(line)
                self._answers[entry["key"]] = entry["answer"]

    def estimate(self, latents: Mapping[int, Sides]) -> AskingCost:
        """Estimate the cost of :meth:`judge` on ``latents`` and of :meth:`check` together."""
        prompts = [self._prompt(sides) for sides in (*latents.values(), *(sides for _, sides in self._planted))]
        new = [prompt for prompt in prompts if self._key(prompt) not in self._answers]
        tokens = sum(len(prompt) for prompt in new) / CHARACTERS_PER_TOKEN
        return AskingCost(len(new), len(prompts) - len(new), round(tokens), ANSWER_TOKENS * len(new))

    def label(
        self, latents: Mapping[int, Sides], *, name: str = "latents", on_progress: PassProgress | None = None
    ) -> tuple[dict[int, LabelRecord], str]:
        """
        Name the poles of latents after a :meth:`check`; return the labels, and who labelled how many, in words.

        ``name`` is what the results call latents. Errors as in :meth:`judge`.
        """
        score = self.check()
        labels = self.judge(latents, on_progress=on_progress)
        return labels, f"{len(labels)} {name} labelled by {self.model}, {score}"

    def judge(self, latents: Mapping[int, Sides], *, on_progress: PassProgress | None = None) -> dict[int, LabelRecord]:
        """Judge latents by number, without those with an unreadable answer; ConfigError if the endpoint fails."""
        found = {}
        for number, (index, sides) in enumerate(latents.items(), start=1):
            judgement = self._ask(self._prompt(sides))
            if judgement is not None:
                found[index] = judgement
            if on_progress is not None:
                on_progress(number, len(latents))
        return found

    def check(self) -> str:
        """Judge the made-up latents, and return in words how many judgements are right; errors as :meth:`judge`."""
        judged = [(relation, self._ask(self._prompt(sides))) for relation, sides in self._planted]
        right = sum(judgement is not None and judgement.relation == relation for relation, judgement in judged)
        return f"right on {right} of {len(judged)} planted ones"

    def _prompt(self, sides: Sides) -> str:
        return self._template.render(negative=sides.negative, positive=sides.positive)

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self.endpoint}\n{self.model}\n{prompt}".encode(errors="replace")).hexdigest()

    def _ask(self, prompt: str) -> LabelRecord | None:
        """Return the judgement on ``prompt``; only readable answers are cached."""
        key = self._key(prompt)
        if key in self._answers:
            return _read(self._answers[key])
        answer = self._request(prompt)
        judgement = _read(answer)
        if judgement is not None:
            self._answers[key] = answer
            self._cache_file.parent.mkdir(parents=True, exist_ok=True)
            with self._cache_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "model": self.model, "answer": answer}) + "\n")
        return judgement

    def _request(self, prompt: str) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        url = f"{self.endpoint}/chat/completions"
        options: Any = {"json": body, "headers": self._headers, "timeout": TIMEOUT}
        options["trust_env"] = not self._headers or url.startswith("https")  # a proxy would see the key
        try:
            answer = httpx.post(url, **options)
            for attempt in range(RETRIES):
                if answer.status_code not in BUSY:
                    break
                wait = answer.headers.get("retry-after", "")
                time.sleep(min(float(wait), 60.0) if wait.isdigit() else 2.0**attempt)
                answer = httpx.post(url, **options)
            if answer.status_code != 200:
                of_key = f" ({KEY} {'was refused' if self._headers else 'is not set'})"
                refused = of_key if answer.status_code in (401, 403) else ""
                raise ValueError(f"HTTP {answer.status_code}{refused}: {answer.text[:200]}")
            return str(answer.json()["choices"][0]["message"]["content"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, IndexError, TypeError) as error:
            raise ConfigError(
                f"labeler={self.endpoint} gave no answer for model {self.model!r} as an OpenAI-compatible endpoint "
                f"does ({error}); check both."
            ) from error


def _read(answer: str) -> LabelRecord | None:
    """Parse the last JSON object in an answer that is a judgement."""
    decoder, found = json.JSONDecoder(), None
    for brace in re.finditer(r"\{", answer):
        with suppress(ValueError, RecursionError):
            found = _judgement(decoder.raw_decode(answer, brace.start())[0]) or found
    return found


def _judgement(value: Any) -> LabelRecord | None:
    if not isinstance(value, Mapping) or value.get("relation") not in RELATIONS or not {"a", "b"} <= value.keys():
        return None
    names = [value[side] or "" for side in ("b", "a")]  # a side without excerpts may have no name
    if not all(isinstance(name, str) for name in names) or not any(name.strip() for name in names):
        return None
    positive, negative = (" ".join(name.split())[:80] for name in names)
    return LabelRecord(positive=positive, negative=negative, relation=value["relation"])
