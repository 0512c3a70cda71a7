"""What every table of the configuration has in common."""

from __future__ import annotations

from pydantic import AliasGenerator, BaseModel, ConfigDict


def yaml_name(attribute: str) -> str:
    """The YAML key of an attribute: in Python the name carries the unit (`interval_s`), in YAML the value (`5s`).

    An underscore at the end only keeps a name apart from a word of Python's (`from_`).
    """
    return attribute.removesuffix("_s").removesuffix("_")


class Table(BaseModel):
    """A YAML mapping: unknown keys fail, values never change after loading."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=yaml_name, serialization_alias=yaml_name),
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )
