"""Serve a site with its model, so that a page can steer: on this machine only, with a token in the address."""

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sae_lens import SAE
from typing_extensions import override

from sae_lens_abstopk.evaluation.steering.steered_model import SteeredModel, tuned_model_of
from sae_lens_abstopk.evaluation.subjects.sae_specs import run_configs, specs_of_sae
from sae_lens_abstopk.evaluation.subjects.vector_subjects import is_of_vectors
from sae_lens_abstopk.explorer.serve import PrivateHandler, bind
from sae_lens_abstopk.explorer.steered import steered_texts
from sae_lens_abstopk.saes.loading import load_sae, require_all_heads
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.files import reason_of

MOST_BYTES = 16_384
# tells the page that it can steer; a page of one file may load nothing, and is allowed to ask the server
SERVED = {
    b"</head>": b'<meta name="served" content="steer">\n</head>',
    b"default-src 'none'": b"default-src 'none'; connect-src 'self'",
}


class SteeringRequest(BaseModel):
    """A latent of one of the site's SAEs, a prompt, and how far to steer to either side."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    sae: int = Field(ge=0)
    latent: int
    prompt: str = Field(min_length=1, max_length=2_000)
    strength: float = Field(gt=0, le=16)
    scale: float = Field(gt=0)
    operator: Literal["add", "cap"]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a request in JSON; ValueError says what is wrong with it."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"the request must be right: {reason_of(error)}") from None


class Steerer:
    """The model and the SAEs of a site; steers for one request at a time."""

    def __init__(
        self, sources: Sequence[str], *, model_name: str | None = None, tuned: bool = False, device: str = "auto"
    ) -> None:
        saes = [load_sae(source) for source in sources]
        for source, sae in zip(sources, saes, strict=True):
            if is_of_vectors(sae) and not sae.cfg.metadata.get("reading"):
                raise ConfigError(
                    f"{source} was trained on vectors of no language model, so there is nothing to steer; open its "
                    "page from disk."
                )
            require_all_heads(sae, "steering")
        folder, adapter = Path(sources[0]), None
        if tuned:
            model_name, adapter = tuned_model_of(saes[0], model=model_name)
        # no text is read; without a run's config, the specs take one
        unread = None if any("hook_name" in raw for _, raw in run_configs(folder)) else "unread.jsonl"
        specs = specs_of_sae(folder, saes[0], model_name=model_name, text=unread, device=device)
        self._steered = SteeredModel.load(specs.model, specs.text, adapter=adapter, d_in=saes[0].cfg.d_in)
        self._saes: list[SAE[Any]] = [sae.to(next(self._steered.model.parameters()).device) for sae in saes]
        self._lock = Lock()

    def texts(self, asked: SteeringRequest) -> Mapping[str, str]:
        """Return greedy continuations of the prompt: ``negative``, ``unsteered`` and ``positive``."""
        require_range("sae", asked.sae, below=len(self._saes), remedy=", the number of SAEs of this site")
        strengths = {"negative": -asked.strength, "unsteered": 0.0, "positive": asked.strength}
        with self._lock, self._steered.running():
            found = steered_texts(
                self._steered.model,
                self._saes[asked.sae],
                {asked.latent: asked.scale},
                [asked.prompt],
                strengths=list(strengths.values()),
                operator=asked.operator,
            )
        return dict(zip(strengths, found[asked.latent][0].texts, strict=True))


class _SteeringHandler(PrivateHandler):
    """Serves the site below ``/TOKEN/`` and steers at ``/TOKEN/steer``; any other address is refused."""

    def __init__(self, *args: Any, token: str, steerer: Steerer, **options: Any) -> None:
        self._token, self._steerer = token, steerer
        super().__init__(*args, **options)

    @override
    def is_allowed(self) -> bool:
        _, token, *rest = f"{self.path}/".split("/", 2)
        return secrets.compare_digest(token.encode(), self._token.encode()) and bool(rest) and super().is_allowed()

    @override
    def translate_path(self, path: str) -> str:
        return super().translate_path("/" + path.removeprefix(f"/{self._token}").lstrip("/"))

    @override
    def send_head(self) -> Any:
        if self.is_allowed() and self.path in (f"/{self._token}/", f"/{self._token}/index.html"):
            page = Path(self.directory, "index.html").read_bytes()
            for from_disk, served in SERVED.items():
                page = page.replace(from_disk, served, 1)
            self._answer(200, page, "text/html; charset=utf-8")
            return None
        return super().send_head()

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        is_json = self.headers.get("Content-Type", "").partition(";")[0] == "application/json"
        if not self.is_allowed() or self.path != f"/{self._token}/steer":
            return self._say(403, "open the address that abstopk serve printed")
        if not (is_json and length.isdecimal()):
            return self._say(400, "a request is JSON, with its length")
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            self.close_connection = True  # the content is not read
            return self._say(413, f"a request has at most {MOST_BYTES:,} bytes")
        try:
            found = self._steerer.texts(SteeringRequest.parse(self.rfile.read(int(length))))
        except ValueError as error:  # a ConfigError is a ValueError
            return self._say(400, str(error))
        return self._answer(200, json.dumps(found).encode(), "application/json")

    def _say(self, status: int, error: str) -> None:
        self._answer(status, json.dumps({"error": error}).encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def steering_server(folder: Path, steerer: Steerer, *, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """Make a server of ``folder`` on 127.0.0.1 that steers, and its address; ConfigError if the port is taken."""
    token = secrets.token_urlsafe(24)
    running = bind(partial(_SteeringHandler, directory=str(folder), token=token, steerer=steerer), port)
    return running, f"http://127.0.0.1:{running.server_port}/{token}/"


def sources_of_site(folder: Path) -> list[str]:
    """Return the SAEs that a page records; ConfigError if ``folder`` has no page, or that of an earlier version."""
    index = folder / "index.html"
    text = index.read_text(encoding="utf-8") if index.is_file() else ""
    _, _, rest = text.partition('id="meta">')
    meta = json.loads(rest.partition("</script>")[0]) if rest else {}
    if "sae" in meta:  # the page of pairs or of two models, with its SAE beside it
        return [str(folder / meta["sae"])]
    sources = [sae.get("source") for sae in meta.get("saes", [])]
    if not sources or None in sources:
        raise ConfigError(
            f"{folder} has no page that this version of `abstopk explore`, `pairs` or `diff` wrote; write it again, "
            f"or, if it has an SAE, steer by `abstopk steer {folder} --latent N --prompt TEXT`."
        )
    return [str(Path(source).expanduser()) if source.startswith("~") else source for source in sources]
