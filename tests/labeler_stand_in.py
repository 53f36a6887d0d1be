"""A stand-in for the endpoint of a labeler."""

from typing import Any

import httpx


class StandIn:
    """Answers what ``script`` says, in turn, then what ``always`` says; remembers what it was asked."""

    address = "http://127.0.0.1:8000/v1"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.by_proxy: list[bool] = []
        self.script: list[tuple[int, str]] = []
        self.always = '{"a": "men", "b": "women", "relation": "opposites"}'

    def post(self, url: str, *, json: Any, headers: dict[str, str], trust_env: bool, **_: Any) -> httpx.Response:
        assert url == f"{self.address}/chat/completions"
        self.asked.append(json)
        self.headers.append(headers)
        self.by_proxy.append(trust_env)
        status, text = self.script.pop(0) if self.script else (200, self.always)
        if status != 200:
            return httpx.Response(status, text=text, headers={"retry-after": "0"})
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})
