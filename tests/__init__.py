import atexit
import os
import shutil
import tempfile

# before anything imports huggingface_hub, which reads them once: nothing from the network, or from the cache of whoever
# runs them
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# read once too, by numpy and torch: threads that wait do not spin, and workers of pytest-xdist, with the processes that
# they start, share the cores
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
if "HF_HOME" not in os.environ:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="abstopk-tests-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
# tests compare numbers of CPUs, and fork processes, which CUDA does not survive
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# with these, rich takes a file for a terminal
for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
    os.environ.pop(name, None)
# the servers of the tests are not behind a proxy
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import tests.shape_checks  # noqa: E402, F401  # before the rooms that it checks are imported
