"""The node's parameters: declared with descriptions and ranges, read once; unknown ones are errors."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from m2h_runtime.errors import InputError
from m2h_runtime.ros.session import require_ros
from m2h_runtime.ros.settings import Facts, Settings, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_EFFECT = (
    (
        "the engine folder holds the network and all of its pre-processing (parameter engine)",
        "model_path checkpoint_path config_path arch_name model_variant num_classes feed_width "
        "feed_height image_height image_width input_width input_height input_color_order "
        "model_expects_rgb scale_input_to_01 normalize_mean normalize_std depth_output_name "
        "semantic_output_name dataset half",
    ),
    ("the newest image is taken whenever the engine is free", "input_queue_size skip_frequency"),
    (
        "the profile says which label space, colours and encodings are published",
        "color20_mat_filepath objects40_csv_mapping label_mapping_yaml color_map_path semantic_encoding",
    ),
    (
        "parameter backend chooses the device, parameter threads the CPU threads",
        "device inference_provider intra_op_num_threads inter_op_num_threads",
    ),
    ("rate and age are on /diagnostics, once a second", "log_every_n_frames warn_output_lag_s"),
    ("publishers keep 10; qos_overrides.TOPIC.publisher.depth changes that", "output_queue_size"),
    ("the profile says the size of the outputs", "output_original_size"),
)
WITHOUT_EFFECT: Mapping[str, str] = MappingProxyType(
    {name: why for why, names in _NO_EFFECT for name in names.split()}
)
"""Mono-Hydra's parameters that mean nothing here, and why. Accepted, so that its launch files work, and announced."""

_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")

S = TypeVar("S")


def read_settings(given: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings of the perception's node that these parameters make; see `read_all`."""
    return read_all(Settings, given, WITHOUT_EFFECT)


def read_all(
    kind: type[S], given: Mapping[str, Any], without_effect: Mapping[str, str] = MappingProxyType({})
) -> tuple[S, list[str]]:
    """The settings that these parameters make, and what a person should be told about them.

    Args:
        kind: a dataclass whose fields have `Facts`.
        given: by name, what files and the command line say; without rclpy's own parameters.
        without_effect: names that are accepted all the same, and why they mean nothing.

    Raises:
        InputError: a parameter is unknown, of another type, out of range, or said twice.
    """
    known = {spec.name: spec for spec in _specs(kind)}
    names = {alias: name for name, spec in known.items() for alias in facts_of(spec).aliases}
    values: dict[str, Any] = {}
    notes: list[str] = []
    for said, value in given.items():
        name = names.get(said, said)
        if name in known:
            value = _typed(said, value, known[name].default)
            if name in values and values[name] != value:
                raise InputError(f"parameters {name} and {said}: are the same and have two values; give one")
            values[name] = value
            if said != name:
                notes.append(f"parameter {said}: taken as {name}")
        elif said in without_effect:
            notes.append(f"parameter {said}: has no effect; {without_effect[said]}")
        else:
            nearest = get_close_matches(said, [*known, *names, *without_effect], 1, 0)[0]
            raise InputError(f"no parameter {said!r}; the nearest is {nearest!r}; docs/ros2.md lists them")
    return kind(**values), notes


def declare(node: Any) -> tuple[Settings, list[str]]:
    """Declare all parameters of the perception's node; see `declare_all`."""
    return declare_all(node, Settings, WITHOUT_EFFECT)


def declare_all(
    node: Any, kind: type[S], without_effect: Mapping[str, str] = MappingProxyType({})
) -> tuple[S, list[str]]:
    """Declare all parameters on a node, with what was given for them.

    Args:
        node: made with `automatically_declare_parameters_from_overrides`, so that what nobody knows can be seen.
        kind: as in `read_all`.
        without_effect: as in `read_all`.

    Returns:
        As `read_all`.

    Raises:
        InputError: see `read_all`.
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(_OF_RCLPY)
    }
    settings, notes = read_all(kind, given, without_effect)
    for name in given:
        node.undeclare_parameter(name)
    for spec in _specs(kind):
        node.declare_parameter(
            spec.name,
            getattr(settings, spec.name),
            _descriptor(facts_of(spec), spec.default),
            ignore_override=True,
        )
    return settings, notes


def _specs(kind: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return fields(kind)


def changed(settings: Settings, parameters: Iterable[Any]) -> Settings:
    """`settings` after a change of live parameters (`rclpy.parameter.Parameter`); others are left alone.

    Raises:
        InputError: a value is not possible.
    """
    live = {spec.name: spec.default for spec in fields(Settings) if facts_of(spec).live}
    values = {
        parameter.name: _typed(parameter.name, parameter.value, live[parameter.name])
        for parameter in parameters
        if parameter.name in live
    }
    return dataclasses.replace(settings, **values)


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` if it is of the type of `default`; a whole number also does for a real one."""
    if type(value) is type(default):
        return value
    if type(default) is float and type(value) is int:
        return float(value)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    raise InputError(f"parameter {name}: needs {kinds[type(default)]}, got {value!r}")


def _descriptor(facts: Facts, default: Any) -> Any:
    messages = require_ros("rcl_interfaces.msg")
    choices = f"one of {', '.join(choice or 'empty' for choice in facts.choices)}" if facts.choices else ""
    descriptor = messages.ParameterDescriptor(
        description=facts.description, additional_constraints=choices, read_only=not facts.live
    )
    if facts.limits is not None:
        low, high = facts.limits
        if type(default) is int:
            span = messages.IntegerRange(from_value=int(low), to_value=int(high), step=1)
            descriptor.integer_range = [span]
        else:
            descriptor.floating_point_range = [messages.FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
