"""What maps and scene graphs are worth, and how fast the chain from camera to graph goes."""

from __future__ import annotations

from typing import Any

from m2h_runtime.bench.mapping import TRUTH
from m2h_runtime.bench.mapping_tables import PAPER_NOTE, mapping_table, pooled
from sections.common import at_least, at_most, command, load, machine, table

MOST_ME_M, LEAST_ROOMS, LEAST_OBJECTS, LEAST_HZ = 0.03, 0.8, 0.6, 10.0


def section() -> list[str]:
    """The lines."""
    result = load("mapping")
    if result is None:
        return []
    everything = pooled(list(result["walks"].values()))
    height, width = result["size"]
    return [
        "## Maps and scene graphs",
        "",
        f"{machine(result)} Walks of {result['duration_s']:g} s through apartments that the demo engine"
        f" (`{result['engine']['folder']}`, {result['engine']['choice'].partition(':')[0]}) was not trained on, {width}x{height}"
        " at 10 FPS, true poses, every second frame mapped. ME and SD: distance of the reconstructed surface from the true"
        " one, mean and standard deviation; P / R: precision and recall. How they are measured:"
        " [mapping](mapping.md#how-good-it-is), [scene graph](scene-graph.md#how-good-it-is). FPS: everything in one thread, on"
        " a machine that others used meanwhile; compare within a walk.",
        *command(result),
        *_walks("All walks together", everything),
        PAPER_NOTE,
        "",
        *goals(everything[0]),
        "",
        *(line for name, rows in result["walks"].items() for line in _walks(name, rows)),
        *chain(result["chain"]),
        "",
    ]


def _walks(title: str, rows: list[dict[str, Any]]) -> list[str]:
    told = mapping_table(title, rows)
    return [f"### {told.title}", "", *table(list(told.header), told.rows), ""]


def goals(truth: dict[str, Any]) -> list[str]:
    """What was to be reached with true depth and labels."""
    assert truth["name"] == TRUTH
    layers = {"Rooms": (truth["rooms"], LEAST_ROOMS), "Objects": (truth["objects"], LEAST_OBJECTS)}
    return [
        f"- ME with true depth at most {MOST_ME_M:g} m: {at_most(truth['me_m'], MOST_ME_M)}.",
        *(
            f"- {name} with true depth and labels, precision and recall at least {least:g}:"
            f" {at_least(min(score['precision'], score['recall']), least)}."
            for name, (score, least) in layers.items()
        ),
    ]


def chain(found: dict[str, Any]) -> list[str]:
    """The rate of the real pipeline."""
    reached = at_least(found["memory"]["fps"], LEAST_HZ)
    return [
        "### From camera to graph",
        "",
        f"The real pipeline on {found['walk']}: engine, temporal alignment, and a graph sink that maps every fifth of a second"
        " of the walk and makes a graph every two; as fast as it goes. The goal is 10 Hz on two cores; the renderer, which a"
        " robot does not have, is not part of it. Milliseconds are means"
        " over all frames; the sink has a thread of its own, and its graphs are in its mean. CPU: of the whole process on all"
        " cores, without the renderer's.",
        "",
        *table(
            [
                "camera",
                "FPS",
                "CPU ms a frame",
                "preparation ms",
                "engine ms",
                "alignment ms",
                "graph sink ms",
                "goal",
            ],
            (
                [*_chain_row(found["memory"], "pictures from memory"), f"≥ {LEAST_HZ:g}: {reached}"],
                [*_chain_row(found["renderer"], "the simulation renders them meanwhile"), ""],
            ),
        ),
    ]


def _chain_row(row: dict[str, Any], title: str) -> list[str]:
    return [
        title,
        f"{row['fps']:.1f}",
        f"{row['cpu_ms']:.0f}",
        *(f"{milliseconds:.1f}" for milliseconds in row["stages_ms"].values()),
    ]
