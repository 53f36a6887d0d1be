"""A comparison of two models with text that means harm."""

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffContext, DiffWriting, LatentWriting
from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from tests.diffs.diff_example import NAN, example

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)> </script><!-- <script>"
BIDI = "שלום \u202eevil\u202c"
LONG = "w" * 3000
HOSTILE = DiffContext(
    tokens=["<s>", HTML, BIDI, " \ud800\x00\u200b", "\n\n", LONG, "   "],
    at=1,
    kl=[0.0, 4.0, 0.5, 9.0, 0.0, 0.2, NAN],
    codes=[NAN, -3.0, 0.5, 0.0, 1.0, 2.0, NAN],
    tuned_next=" <b>bold</b>",
    base_next="\n",
)


def hostile_example() -> Diff:
    """As :func:`example`; the first latent is promoted tokens and hostile contexts, the last never says less."""
    results, contexts = example()
    results = results.model_copy(update={"tuned": "<b>tuned</b>", "data": HTML})
    first, second, last = contexts.latents
    promotes = {"positive_promotes": [" oui", HTML], "negative_promotes": [" yes"]}
    first = first.model_copy(update={"negative": [HOSTILE, *first.negative], **promotes})
    last = last.model_copy(update={"negative": []})
    silent = results.latents[-1].negative.model_copy(update={"share_active": 0.0, "scale": 0.0, "kl_estimate": 0.0})
    results.latents[-1] = results.latents[-1].model_copy(update={"negative": silent})
    label = LabelRecord(positive=f"questions {HTML}", negative="", relation="one-sided")
    results.latents[1] = results.latents[1].model_copy(update={"label": label})
    written = LatentWriting(latent=2, side=1, code=2.7, base_with=["Oui", "<b>oui</b>"], tuned_without=["Yes", ""])
    writing = DiffWriting(prompts=["Is it?", HTML], base=["Yes", "No"], tuned=["Oui", "Non"], latents=[written])
    parting = [HOSTILE.model_copy(update={"codes": []}), *contexts.parting]
    return Diff(
        results, contexts.model_copy(update={"latents": [first, second, last], "parting": parting, "writing": writing})
    )
