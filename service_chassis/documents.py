"""The OpenAPI documents beyond the framework's part: problems, headers, servers, security."""

import http
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from service_chassis.fields import KEY_SCHEMA
from service_chassis.problems import KINDS, MEDIA_TYPE
from two_phase.http.records import REF
from two_phase.messages import PROTOCOL_VERSION

Responses = dict[int | str, dict[str, Any]]

#: The statuses that a body may be answered with: one that is checked field by field, and a message
#: of the protocol.
CHECKED, MESSAGE = (400, 408, 413, 415, 422), (400, 415)
_URN = "urn:shop:problem:"


def optional(**more: Any) -> Any:
    """Return a field that an answer may leave out.

    Answers are documented by models, and not made of them.
    """
    return Field(default_factory=dict, **more)


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it.

    `type` never changes its meaning, `detail` is for people.
    """

    type: str = Field(pattern=f"^{_URN}[a-z_]+$", examples=[f"{_URN}not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["there is no user 7"])


class FieldError(BaseModel):
    """A field, parameter or header that breaks a rule."""

    field: str = Field(examples=["items.0.quantity"])
    message: str = Field(examples=["Input should be greater than or equal to 1"])


class InvalidRequest(Problem):
    """A request that is understood and breaks rules: each is named by its field."""

    errors: list[FieldError] = Field(min_length=1)


LOCATION = {
    "Location": {
        "description": "Where to look at it.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which the same request may be sent again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_ALLOW = {
    "Allow": {
        "description": "The methods that the path has.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "Asks for a bearer's key.",
        "required": True,
        "schema": {"type": "string"},
    }
}

#: The parameter of every call that honours it.
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body gets the first answer again,"
    " whatever has become of the connection.",
    "schema": KEY_SCHEMA,
    "example": "2f3a9c1e-order-17",
}

#: By status: the headers, a sentence, and the detail of an example.
_PROBLEMS: dict[int, tuple[Mapping[str, Any], str, str]] = {
    400: ({}, "The body is not JSON.", "the body is not valid JSON"),
    401: (_CHALLENGE, "The caller has none of the keys.", "the pair's shared key is needed"),
    404: ({}, "What the path names does not exist.", "there is no user 7"),
    405: (_ALLOW, "The path has no such method.", "Method Not Allowed"),
    408: ({}, "The body did not arrive in time.", "the body did not arrive within 10 seconds"),
    409: (
        {},
        "It cannot be done as things stand.",
        "would lift the balance above 9007199254740991",
    ),
    413: ({}, "The body is too large.", "the body must not be larger than 65536 bytes"),
    415: ({}, "The body is not plain JSON.", "the body must be application/json"),
    422: (
        {},
        "The request breaks a rule, or its Idempotency-Key was used with another body.",
        "limit: must not be given twice",
    ),
    503: (
        _RETRY_AFTER,
        "There is no answer now, and nothing was done.",
        "the database does not answer",
    ),
}


def problem(
    status: int,
    *,
    says: str = "",
    kind: str = "",
    model: type[Problem] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """Return what a document says of a problem; ``members`` are in its example."""
    headers, usual, detail = _PROBLEMS[status]
    if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
        model = InvalidRequest
        members = {"errors": [{"field": "limit", "message": "must not be given twice"}]}
    example = {
        "type": f"{_URN}{kind or KINDS[status]}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    schema = {"$ref": REF.format(model=(model or Problem).__name__)}
    content = {MEDIA_TYPE: {"schema": schema, "example": example}}
    return {"description": says or usual, "content": content} | (
        {"headers": dict(headers)} if headers else {}
    )


def answer(model: Any, says: str, **more: Any) -> dict[str, Any]:
    """Return what a document says of an answer in JSON."""
    return {"model": model, "description": says, **more}


def creation(one: Any, many: Any) -> Responses:
    """Return what a document says of the answer to a creation of one thing, or of many."""
    location = {
        "Location": {
            **LOCATION["Location"],
            "description": "Where to look at it, if it is one.",
            "required": False,
        }
    }
    return {201: answer(one | many, "It is created: one, or all of them.", headers=location)}


@dataclass(frozen=True)
class Document:
    """What one application's document says beside its operations.

    ``tags`` are its chapters, ``models`` are those that it refers to beside the framework's own,
    ``bodies`` the statuses that any body may be answered with; ``key`` says that callers need one.
    """

    title: str
    description: str
    tags: Mapping[str, str]
    models: Sequence[type[BaseModel]] = ()
    bodies: Sequence[int] = CHECKED
    key: bool = False


def document(app: FastAPI, about: Document) -> None:
    """Give ``app`` its document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app, about)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # as the framework's own manual has it


def _made(app: FastAPI, about: Document) -> dict[str, Any]:
    made = get_openapi(
        title=about.title,
        version=app.version,
        description=about.description,
        routes=app.routes,
        tags=[{"name": name, "description": says} for name, says in about.tags.items()],
        servers=[{"url": "/", "description": "Where this document was found"}],
        license_info={"name": "MIT", "identifier": "MIT"},
        contact={"name": "Those who run this shop"},
        separate_input_output_schemas=False,
    )
    models = [(model, "validation") for model in (Problem, InvalidRequest, *about.models)]
    _, definitions = models_json_schema(models, ref_template=REF)  # type: ignore[arg-type] # a literal, widened
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for schema in schemas.values():
        if "version" in schema.get("properties", {}):
            schema["properties"]["version"]["const"] = PROTOCOL_VERSION
    made["security"] = [{"key": []}] if about.key else []
    if about.key:
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for operation in (operation for path in made["paths"].values() for operation in path.values()):
        for parameter in operation.get("parameters", []):
            _without_null(parameter)
        _add_problems(operation, about)
    return _without_unused(made)


def _add_problems(operation: dict[str, Any], about: Document) -> None:
    """Add the problems that any operation of its kind may answer and it does not name."""
    responses = operation["responses"]
    if MEDIA_TYPE not in responses.get("422", {}).get("content", {}):
        responses.pop("422", None)
    statuses = {405}
    if "security" not in operation:
        statuses |= {503, 401} if about.key else {503}
    if "requestBody" in operation:
        statuses |= set(about.bodies)
    if operation.get("parameters"):
        statuses.add(422)
    for status in statuses:
        responses.setdefault(str(status), problem(status))
    operation["responses"] = dict(sorted(responses.items()))


def _without_null(parameter: dict[str, Any]) -> None:
    """Leave out that a parameter may be null, which stands for one that is not given."""
    schema = parameter["schema"]
    if choices := [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]:
        (only,) = choices
        parameter["schema"] = {
            name: value for name, value in schema.items() if name not in ("anyOf", "title")
        } | only


def _without_unused(made: dict[str, Any]) -> dict[str, Any]:
    schemas = made["components"]["schemas"]
    used: set[str] = set()
    waiting = _references(made["paths"])
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting |= _references(schemas[name])
    made["components"]["schemas"] = {name: schemas[name] for name in sorted(used)}
    return made


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_references, node))
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values()))
    return set()
