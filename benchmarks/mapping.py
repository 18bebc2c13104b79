"""Maps and scene graphs of simulated apartments against the truth, per engine, with and without temporal alignment.

    python benchmarks/mapping.py --walks 9001-handheld 9002-handheld --engine engines/m2h-nano-apartments
    python benchmarks/mapping.py --table          # the table from benchmarks/results/mapping.json

The walks are those of apartments kept for judging. `m2h-bench mapping` measures one walk the same way.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import machine

from m2h_runtime.bench.mapping import MappingResult, RenderedWalk, mapping_table, measure_mapping
from m2h_runtime.engine import open_engine

RESULTS = Path(__file__).resolve().parent / "results" / "mapping.json"
WALKS = ["9001-handheld", "9002-handheld", "9003-wheeled", "9004-handheld", "9005-drone"]


def main() -> int:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--walks", nargs="+", default=WALKS)
    parser.add_argument("--engine", type=Path, action="append", default=[])
    parser.add_argument("--duration", type=float, default=60.0)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not args.table:
        measure(args)
    record = json.loads(RESULTS.read_text())
    print(table(record["walks"]))
    return 0


def measure(args: argparse.Namespace) -> None:
    """Every walk with the truth and with each engine, plain and aligned; the file is written after each walk."""
    record: dict = {"machine": machine.facts(), "duration_s": args.duration, "walks": {}}
    for name in args.walks:
        walk = RenderedWalk(name, duration_s=args.duration)
        results = [measure_mapping(walk)]
        for folder in args.engine:
            with open_engine(folder) as engine:
                results += [measure_mapping(walk, engine, aligned=aligned) for aligned in (False, True)]
        record["walks"][name] = [result.as_dict() for result in results]
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")
        print(f"\n{name}\n{mapping_table(results)}", flush=True)


def table(walks: dict) -> str:
    """Means over the walks; precision and recall over all nodes of all walks together."""
    rows = {}
    for results in walks.values():
        for result in results:
            rows.setdefault((result["name"], result["aligned"]), []).append(result)
    return mapping_table([pooled(results) for results in rows.values()])


def pooled(results: list) -> MappingResult:
    """One row for several walks."""
    mean = {
        key: statistics.mean(r[key] for r in results)
        for key in ("fps", "me_m", "sd_m", "completeness", "graph_s")
    }
    scores = {}
    for layer in ("rooms", "objects"):
        matched, found, true = (sum(r[layer][key] for r in results) for key in ("matched", "found", "true"))
        scores[layer] = {"precision": matched / max(found, 1), "recall": matched / max(true, 1)}
    frames, mapped = (sum(r[key] for r in results) for key in ("frames", "mapped"))
    return MappingResult(results[0]["name"], results[0]["aligned"], frames, mapped, **mean, **scores)


if __name__ == "__main__":
    raise SystemExit(main())
