"""The description of C{/api/v1} in OpenAPI 3.1, made of the structures that it answers with."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import __version__
from ..broker.shown import ShownClient, ShownListener, ShownRetained, ShownSubscription
from .answers import Node, Publication

_REF: Final = "#/components/schemas/"


def _parameter(name: str, place: str, kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": meaning,
        "schema": {"type": kind, **more},
    }


_PAGE: Final = [
    _parameter("offset", "query", "integer", "Leave out this many.", minimum=0, default=0),
    _parameter(
        "limit", "query", "integer", "At most this many.", minimum=1, maximum=1000, default=100
    ),
]


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _page(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "total", "next"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": _REF + name}},
            "total": {"type": "integer"},
            "next": {
                "type": ["integer", "null"],
                "description": "The offset of the next page; null behind the last.",
            },
        },
    }


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"const": True}}}


_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "reason_code": {"type": "integer", "description": "Of MQTT 5.0, where there is one."},
    },
}

_FAILURES: Final = {
    400: "The request is not valid.",
    401: "A token is needed, or is wrong.",
    403: "Refused: cross-site, or a foreign Host.",
    404: "There is no such thing.",
    503: "The log or the store cannot do it now.",
}


def _operation(
    summary: str,
    answer: dict[str, Any],
    failures: tuple[int, ...],
    parameters: list[dict[str, Any]] | None = None,
    request: dict[str, Any] | None = None,
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Done.", **_body(answer)}}
    for status in failures:
        reference = {"$ref": _REF + "Error"}
        responses[str(status)] = {"description": _FAILURES[status], **_body(reference)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if request is not None:
        operation["requestBody"] = {"required": True, **request}
    return operation


def document() -> dict[str, Any]:
    """The whole description; C{/api/v1/openapi.json}."""
    read, write = (400, 401, 403), (400, 401, 403, 503)
    kinds = (Node, ShownClient, ShownSubscription, ShownRetained, ShownListener, Publication)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF + "{name}")
    client_id = _parameter("client_id", "path", "string", "Percent-encoded.")
    topic = _parameter("topic", "path", "string", "Percent-encoded; slashes may stay.")
    whose = _parameter("client_id", "query", "string", "Those of one client.")
    which = _parameter("filter", "query", "string", "Topics that match.", default="#")
    client = {"$ref": _REF + "ShownClient"}
    listeners = {"type": "array", "items": {"$ref": _REF + "ShownListener"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mop_twisted",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/api/v1/broker": {
                "get": _operation("The node at a glance", {"$ref": _REF + "Node"}, (401, 403))
            },
            "/api/v1/clients": {
                "get": _operation("Sessions", _page("ShownClient"), read, _PAGE),
            },
            "/api/v1/clients/{client_id}": {
                "get": _operation("One session", client, (*read, 404), [client_id]),
                "delete": _operation(
                    "End a client's connection with 0x98; its session stays",
                    _flag("disconnected"),
                    (*read, 404),
                    [client_id],
                ),
            },
            "/api/v1/subscriptions": {
                "get": _operation(
                    "Subscriptions", _page("ShownSubscription"), read, [whose, *_PAGE]
                ),
            },
            "/api/v1/retained": {
                "get": _operation(
                    "Retained messages, without payloads",
                    _page("ShownRetained"),
                    read,
                    [which, *_PAGE],
                ),
            },
            "/api/v1/retained/{topic}": {
                "delete": _operation(
                    "Forget a retained message", _flag("deleted"), (*write, 404), [topic]
                ),
            },
            "/api/v1/listeners": {
                "get": _operation("Where clients may connect", listeners, (401, 403)),
            },
            "/api/v1/publish": {
                "post": _operation(
                    "Publish a message",
                    _flag("published"),
                    write,
                    request=_body({"$ref": _REF + "Publication"}),
                ),
            },
        },
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }
