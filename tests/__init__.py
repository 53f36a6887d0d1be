import os

# before anything imports huggingface_hub, which reads it once
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# with these, rich takes a file for a terminal
for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
    os.environ.pop(name, None)
# the servers of the tests are not behind a proxy
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
