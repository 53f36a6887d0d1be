"""A language model behind an OpenAI-compatible endpoint that names the poles of latents and judges how they relate."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sae_lens_abstopk.explorer.latents import Judgement, Latent, ShownContext
from sae_lens_abstopk.system.errors import ConfigError

RELATIONS = ("opposites", "related", "unrelated", "one-sided")
KEY = "OPENAI_API_KEY"
# addresses that the key can be sent to without others on the way reading it
PRIVATE = r"https://|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)"
EXCERPTS = 6
# what an answer takes, and characters a token: rough, and meant to be on the high side
ANSWER_TOKENS, CHARACTERS_A_TOKEN = 60, 3.5
RETRIES, SECONDS = 3, 120.0


@dataclass(frozen=True)
class AskingCost:
    """What asking is going to take, before anything is asked."""

    requests: int
    """Questions that the cache has no answer to."""
    cached: int
    prompt_tokens: int
    """Estimated from the characters."""
    answer_tokens: int


@dataclass(frozen=True)
class PlantedCheck:
    """How a judge does on latents whose sides are known."""

    right: int
    total: int


class Labeler:
    """
    Asks ``model`` at ``endpoint`` (such as ``http://localhost:8000/v1``), each question once: answers are cached.

    The key, where the endpoint wants one, is read from ``OPENAI_API_KEY``, written nowhere, and sent by https or to this
    machine alone.

    Args:
        endpoint: Address that ``/chat/completions`` is appended to.
        model: Name of the model there.
        cache: JSONL file of answers.
        prompt: File with a Jinja template of the question, which is given ``negative`` and ``positive``, lists of
            excerpts, and has to ask for the JSON that the packaged one asks for; that one by default.

    Raises:
        ConfigError: the address or the template is none, or the key would be sent in the clear.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        cache: Path,
        prompt: Path | None = None,
    ) -> None:
        if not re.match(r"https?://[^/]", endpoint):
            raise ConfigError(f"labeler={endpoint!r} is not a URL; give one like http://localhost:8000/v1.")
        self.endpoint, self.model, self._cache_file = endpoint.rstrip("/"), model, cache
        packaged = files("sae_lens_abstopk.explorer") / "assets" / "labeler_prompt.txt.j2"
        try:
            text = packaged.read_text(encoding="utf-8") if prompt is None else prompt.read_text(encoding="utf-8")
            environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
            self._template = environment.from_string(text)
            self._template.render(negative=["a"], positive=["b"])
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            raise ConfigError(f"the labeler's prompt {prompt} cannot be used: {error}") from error
        self._answers = _read_cache(cache)
        self._headers()

    def estimate(self, latents: Sequence[Latent]) -> AskingCost:
        """What :meth:`judge` of ``latents`` and :meth:`check` are going to take."""
        prompts = [self._prompt_of(latent) for latent in latents] + [self._prompt(*case[1:]) for case in planted()]
        new = [prompt for prompt in prompts if self._key(prompt) not in self._answers]
        tokens = sum(len(prompt) for prompt in new) / CHARACTERS_A_TOKEN
        return AskingCost(len(new), len(prompts) - len(new), round(tokens), ANSWER_TOKENS * len(new))

    def judge(
        self, latents: Sequence[Latent], *, on_progress: Callable[[int, int], None] | None = None
    ) -> dict[int, Judgement]:
        """
        Latent to judgement; one whose answer could not be read is left out.

        Raises:
            ConfigError: the endpoint cannot be reached or refuses.
        """
        found = {}
        for number, latent in enumerate(latents, start=1):
            judgement = self._ask(self._prompt_of(latent))
            if judgement is not None:
                found[latent.index] = judgement
            if on_progress is not None:
                on_progress(number, len(latents))
        return found

    def check(self) -> PlantedCheck:
        """Judge the packaged planted latents. Errors are those of :meth:`judge`."""
        cases = planted()
        judged = [(relation, self._ask(self._prompt(*sides))) for relation, *sides in cases]
        right = sum(judgement is not None and judgement.relation == relation for relation, judgement in judged)
        return PlantedCheck(right, len(cases))

    def _prompt_of(self, latent: Latent) -> str:
        return self._prompt(*([excerpt(c) for c in pole.strongest[:EXCERPTS]] for pole in latent.poles[::-1]))

    def _prompt(self, negative: Sequence[str], positive: Sequence[str]) -> str:
        return self._template.render(negative=negative, positive=positive)

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self.endpoint}\n{self.model}\n{prompt}".encode(errors="replace")).hexdigest()

    def _ask(self, prompt: str) -> Judgement | None:
        """The answer to ``prompt``; one that cannot be read is not kept, so that another run asks again."""
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
        headers = self._headers()
        answer = self._post(body, headers)
        for attempt in range(RETRIES):
            if answer.status_code not in (429, 500, 502, 503, 504):
                break
            time.sleep(_seconds_to_wait(answer, attempt))
            answer = self._post(body, headers)
        if answer.status_code in (401, 403):
            state = "was refused" if headers else "is not set"
            raise ConfigError(f"labeler={self.endpoint} needs an API key, and {KEY} {state}; set it to a valid key.")
        if answer.status_code != 200:
            raise ConfigError(
                f"labeler={self.endpoint} answered with HTTP {answer.status_code} for model {self.model!r}; check both: "
                f"{answer.text[:200]}"
            )
        try:
            return str(answer.json()["choices"][0]["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise ConfigError(
                f"labeler={self.endpoint} does not answer as an OpenAI-compatible endpoint does: {answer.text[:200]}"
            ) from None

    def _headers(self) -> dict[str, str]:
        """With the key, where there is one, which goes over no network in the clear."""
        key = os.environ.get(KEY)
        if key and not re.match(PRIVATE, self.endpoint):
            raise ConfigError(
                f"labeler={self.endpoint}: {KEY} is set, and http would send it in the clear; use https, or unset the key where "
                "the endpoint wants none."
            )
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _post(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
        try:
            return httpx.post(f"{self.endpoint}/chat/completions", json=body, headers=headers, timeout=SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConfigError(f"labeler={self.endpoint} cannot be reached: {error}.") from error


def excerpt(context: ShownContext) -> str:
    """A context on one line, its token between << and >>."""
    before, token, after = context.tokens[: context.at], context.tokens[context.at], context.tokens[context.at + 1 :]
    space = token[: len(token) - len(token.lstrip(" "))]
    text = f"{''.join(before)}{space}<<{token[len(space) :]}>>{''.join(after)}"
    return " ".join(text.split())


def planted() -> list[tuple[str, list[str], list[str]]]:
    """(relation, excerpts of the negative side, of the positive side) of latents made to check a judge with."""
    text = (files("sae_lens_abstopk.explorer") / "assets" / "planted.yaml").read_text(encoding="utf-8")
    return [(case["relation"], case["negative"], case["positive"]) for case in yaml.safe_load(text)]


def _read(answer: str) -> Judgement | None:
    """The judgement in an answer, which is the last of its JSON objects that is one; None where there is none."""
    decoder, found = json.JSONDecoder(), None
    for brace in re.finditer(r"\{", answer):
        with suppress(ValueError, RecursionError):
            found = _judgement(decoder.raw_decode(answer, brace.start())[0]) or found
    return found


def _judgement(value: Any) -> Judgement | None:
    if not isinstance(value, Mapping) or value.get("relation") not in RELATIONS or not {"a", "b"} <= value.keys():
        return None
    names = [value[side] or "" for side in ("b", "a")]  # a side without excerpts may be left without a name
    if not all(isinstance(name, str) for name in names) or not any(name.strip() for name in names):
        return None
    positive, negative = (" ".join(name.split())[:80] for name in names)
    return Judgement(positive=positive, negative=negative, relation=value["relation"])


def _read_cache(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    answers = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            answers[entry["key"]] = entry["answer"]
        except (ValueError, KeyError, TypeError):
            continue  # a line that a killed run left unfinished
    return answers


def _seconds_to_wait(answer: httpx.Response, attempt: int) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), 60.0) if asked.isdigit() else 2.0**attempt
