import os

# as the command does, for processes that import torch before it
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
