"""The arithmetic peak that two threads reach here: fp32 and bf16 matrix products of 2048³ in PyTorch (oneDNN, MKL).

python benchmarks/peak.py --out benchmarks/results/peak.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import torch
from machine import facts  # beside this script

SIDE, REPEATS, THREADS = 2048, 15, 2


def gflops(dtype: torch.dtype) -> float:
    """Median 10⁹ operations per second."""
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    a @ b
    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ b
        rates.append(2 * SIDE**3 / (time.perf_counter() - start) / 1e9)
    return round(median(rates), 1)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    result = {
        "command": "python " + " ".join(sys.argv),
        "machine": facts(),
        "fp32_gflops": gflops(torch.float32),
        "bf16_gflops": gflops(torch.bfloat16),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"fp32 {result['fp32_gflops']} GFLOP/s, bf16 {result['bf16_gflops']} GFLOP/s")


if __name__ == "__main__":
    main()
