"""The head of a results file: time, settings and environment of the measurement."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.system.files import home_as_tilde
from sae_lens_abstopk.system.provenance import commit, environment, processor


def run_facts(subjects: Subjects) -> dict[str, Any]:
    """Return the keys of :class:`~.schema.Results` about the current run."""
    program = Path(sys.argv[0])
    is_abstopk = program.stem == "abstopk" or program.parts[-2:] == ("sae_lens_abstopk", "__main__.py")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["abstopk", *map(home_as_tilde, sys.argv[1:])]) if is_abstopk else "Python",
        "commit": commit(),
        "environment": environment(subjects.device) | {"processor": processor()},
        "model": subjects.model_name,
        "hook": subjects.model_spec.hook_name,
        "text": subjects.text_name,
        "held_out": subjects.held_out,
        "kept_tokens": str(subjects.rules),
    }
