"""`cvfp`, by one process of `python -m benchmarks.group`, which writes down what that took of its GPU.

The environment names the folder (USED), and says whether to list the operations that took most (PROFILED).
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from cvfp.cli.main import main

USED, PROFILED = "CVFP_BENCHMARK_USED", "CVFP_BENCHMARK_PROFILED"
OPERATIONS = 15


def run() -> int:
    profiled = profile(activities=[ProfilerActivity.CUDA]) if os.environ.get(PROFILED) else nullcontext()
    with profiled:
        code = main()
    rank = os.environ.get("RANK", "0")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    (Path(os.environ[USED]) / f"{rank}.json").write_text(json.dumps({"peak_bytes": peak}))
    if isinstance(profiled, profile) and rank == "0":
        found = profiled.key_averages()
        print(found.table(sort_by="cuda_time_total", row_limit=OPERATIONS, max_name_column_width=70))
    return code


if __name__ == "__main__":
    sys.exit(run())
