"""How a member of what is listed is declared, and the schemas that follow from it.

A member is a field of a dataclass that is annotated with a :class:`Member`. Its type, whether it
may be ``null`` and whether it has to be said are those of the field, where mypy sees them, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as attributes_of
from functools import lru_cache
from types import NoneType
from typing import Any, ClassVar, NamedTuple, get_args, get_origin, get_type_hints

from marshmallow import Schema, ValidationError, fields, post_load, validate

from fastx_list.model.json import to_json

MAX_NUMBER = 2**53  # up to which every whole number is one in JavaScript, too


class _WholeNumber(fields.Integer):
    """A whole number, however it is written: 7.0 is 7."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return super()._deserialize(value, attr, data, **kwargs)


class _Several(fields.List[Any]):
    """Some values, which do not change."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        return tuple(super()._deserialize(value, attr, data, **kwargs))


_KINDS: dict[type, type[fields.Field[Any]]] = {
    bool: fields.Boolean,
    float: fields.Float,
    int: _WholeNumber,
    str: fields.String,
}


@dataclass(frozen=True)
class Member:
    """What is declared of a member beside the name, the type and the default of its attribute."""

    name: str  # as it is published
    label: str  # for people, such as a column's heading
    description: str
    unit: str = ""
    also: str = ""  # another name under which it is published as well
    form: validate.Validator | None = None  # what readers can rely on, whoever says it
    limits: validate.Validator | None = None  # what launchers have to keep to besides
    takes: str = ""  # the answer to a value of a wrong type; without it marshmallow's

    @property
    def meaning(self) -> str:
        """The description, with the unit."""
        return f"{self.description} ({self.unit})" if self.unit else self.description


class Declared(NamedTuple):
    """A member, and what its attribute says of it."""

    member: Member
    attribute: str
    type: Any  # without None
    nullable: bool
    required: bool  # of whoever says it


def declared(owner: type) -> list[Declared]:
    """Return the members that the dataclass ``owner`` declares and inherits."""
    hints = get_type_hints(owner, include_extras=True)
    members = []
    for each in attributes_of(owner):
        hint, *extras = get_args(hints[each.name]) or (None,)
        for member in extras:
            if isinstance(member, Member):
                nullable = NoneType in get_args(hint)
                [kind] = set(get_args(hint)) - {NoneType} if nullable else [hint]
                required = each.default is each.default_factory is MISSING
                members.append(Declared(member, each.name, kind, nullable, required))
    return members


def writing_schema(owner: type, order: Sequence[str] = ()) -> type[Schema]:
    """Return the schema that writes an ``owner``: the members that ``order`` names, then the others
    as they are declared.

    Dumping asks neither ``required`` nor ``allow_none`` nor validators; they say what a reader can
    rely on.
    """
    written: dict[str, fields.Field[Any]] = {}
    for each in declared(owner):
        member = each.member
        checks = [member.form] if member.form else []
        written[member.name] = _field(each, member.meaning, checks, required=True)
        if member.also:
            also = _field(each, f"the same as {member.name}", checks, required=True, dump_only=True)
            written[member.also] = also
    names = dict.fromkeys([*order, *written])
    return Schema.from_dict({name: written[name] for name in names})


class _Said(Schema):
    """What a launcher says, in which a member may stand under either of its names."""

    twice: ClassVar[Sequence[Declared]] = ()  # the members that have two

    @post_load
    def _as_one(self, said: dict[str, Any], **_: Any) -> dict[str, Any]:
        for each in self.twice:
            name, also = each.member.name, each.member.also
            if also in said:
                value = said.pop(also)
                first = said.setdefault(each.attribute, value)
                if value != first:
                    raise ValidationError(
                        f"says {to_json(value)} where {name}, the same member, says"
                        f" {to_json(first)}",
                        also,
                    )
        return said


def reading_schema(owner: type) -> type[Schema]:
    """Return the schema of what a launcher may say: the members of ``owner``, by attribute.

    Unknown members are refused rather than ignored, since a misspelt one would otherwise silently
    be missing.
    """
    members = declared(owner)

    class Said(_Said):
        twice = tuple(each for each in members if each.member.also)

    read = {each.member.name: _read(each) for each in members}
    also = {
        each.member.also: _read(each._replace(attribute=each.member.also)) for each in Said.twice
    }
    return Said.from_dict({**read, **also})


def _read(each: Declared) -> fields.Field[Any]:
    return _field(
        each,
        "",
        [check for check in (each.member.form, each.member.limits) if check],
        required=each.required,
        error_messages={"invalid": each.member.takes} if each.member.takes else {},
    )


def _field(
    each: Declared, description: str, checks: Iterable[validate.Validator], **options: Any
) -> fields.Field[Any]:
    options |= {
        "attribute": each.attribute,
        "allow_none": each.nullable,
        "validate": [*checks],
        "metadata": {"description": description},
    }
    if get_origin(each.type) is tuple:
        [item, *_] = items = get_args(each.type)
        if ... not in items:
            options["validate"].append(validate.Length(equal=len(items)))
        return _Several(_KINDS[item](), **options)
    if get_origin(each.type) is Mapping:
        return fields.Dict(**options)
    if each.type is int:
        options["strict"] = True
    return _KINDS[each.type](**options)


# JSON as it is written as a rule, of numbers that are within bounds
_PLAIN = r'[^"\\\x00-\x1f]*'
_TEXT = r'"[^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*"'
_WHOLE = r"-?(?:0|[1-9][0-9]{0,14})"
_REAL = _WHOLE + r"(?:\.[0-9]{1,17})?"
_PAIR = f"{_TEXT}:(?:{_TEXT}|{_REAL}|true|false|null)"
_PATTERNS = {
    bool: "(?:true|false)",
    float: _REAL,
    int: _WHOLE,
    str: _TEXT,
    Mapping: rf"\{{(?:{_PAIR}(?:,{_PAIR})*)?\}}",
}


def plain_form(
    declared: Iterable[Declared], order: Iterable[str], groups: Sequence[str] = ()
) -> str:
    """Return a regular expression of the members ``order`` in JSON, as they are written as a rule.

    What fits is well-formed, and what :func:`check_members` takes; that costs a tenth of finding it
    out by parsing. Not all that is well-formed fits. The texts of ``groups`` are groups, in the
    order of the members.
    """
    patterns = {}
    for each in declared:
        pattern = f'"({_PLAIN})"' if each.member.name in groups else _plain_value(each)
        patterns[each.member.name] = patterns[each.member.also] = pattern
    return ",".join(f'"{name}":{patterns[name]}' for name in order)


def _plain_value(each: Declared) -> str:
    form = each.member.form
    if isinstance(form, validate.OneOf):
        pattern = "|".join(re.escape(to_json(choice)) for choice in form.choices)
    elif isinstance(form, validate.Regexp):  # of what stands in JSON as it is
        pattern = '"(?:' + str(form.regex.pattern).removesuffix(r"\Z") + ')"'
    elif get_origin(each.type) is tuple:  # of any number
        pattern = _PATTERNS[get_args(each.type)[0]]
        pattern = rf"\[(?:{pattern}(?:,{pattern})*)?\]"
    else:
        pattern = _PATTERNS[get_origin(each.type) or each.type]
    return f"(?:{pattern}|null)" if each.nullable else f"(?:{pattern})"


def check_members(members: Mapping[str, Any], declared: Iterable[Declared]) -> None:
    """Raise ``ValueError`` unless ``members``, which were read somewhere, are what is declared.

    What may be unknown may be missing, and others than the declared ones are not looked at: another
    release may have written them.
    """
    for each in declared:
        name, form = each.member.name, each.member.form
        value = members.get(name)
        if value is None and (each.nullable or not (each.required or name in members)):
            continue
        if not _is(value, each.type):
            raise ValueError(f"its {name} is of a wrong type, or out of bounds")
        if form is not None:
            try:
                form(value)
            except ValidationError:
                raise ValueError(f"its {name} has a wrong form") from None


@lru_cache
def _origin(kind: Any) -> Any:
    return get_origin(kind)


def _is(value: object, kind: Any) -> bool:
    """Whether ``value``, which JSON said, is of this type, and a number one that everybody can
    read."""
    if _origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list):
            return False
        if kinds[-1] is Ellipsis:
            return all(_is(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_is, value, kinds))
    if kind is int or kind is float:
        return (
            isinstance(value, (int, kind))
            and not isinstance(value, bool)
            and abs(value) <= MAX_NUMBER
        )
    return isinstance(value, _origin(kind) or kind)
