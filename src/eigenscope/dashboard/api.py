"""What the page asks for: runs, series, densities, readings; and the two things that it may say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eigenscope.dashboard.strict_json import StrictJSON
from eigenscope.dashboard.table import RunTable, UnknownRunError
from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.errors import RunFileError
from eigenscope.runs import Run, Series
from eigenscope.runs.actions import TooLateError, answer
from eigenscope.runs.opening import acknowledge

MAX_POINTS = 20_000  # of one metric in one answer
MAX_NAMES = 100
MAX_DENSITIES = 1_000
MAX_MEASUREMENTS = 1_000
HISTORY = 200  # changes of alerts, and actions, in one answer


_STATUS = {UnknownRunError: 404, TooLateError: 409, RunFileError: 422}


class Api:
    """The routes below /api, over one table of runs."""

    def __init__(self, table: RunTable) -> None:
        self._table = table

    def routes(self) -> list[Route]:
        """Longest first: an id may hold slashes."""
        run = "/api/runs/{run_id:path}"
        return [
            Route("/api/session", self.session),
            Route("/api/runs", self.runs),
            Route(f"{run}/series", self.series),
            Route(f"{run}/densities", self.densities),
            Route(f"{run}/measurements", self.measurements),
            Route(f"{run}/readings/{{step:int}}", self.reading),
            Route(f"{run}/alerts/{{alert_id:int}}/acknowledge", self.acknowledge, methods=["POST"]),
            Route(f"{run}/actions/{{key:int}}/{{verb}}", self.answer, methods=["POST"]),
            Route(run, self.run),
        ]

    def session(self, request: Request) -> Response:
        """The program's version, and the definition of every number it shows."""
        definitions = {name: asdict(definition) for name, definition in DEFINITIONS.items()}
        return StrictJSON({"version": version("eigenscope"), "definitions": definitions})

    def runs(self, request: Request) -> Response:
        """The list of runs."""
        return StrictJSON(self._table.summaries())

    def run(self, request: Request) -> Response:
        """One run: what it is, its last reading, its alerts."""
        with self._open(request) as run:
            return StrictJSON({"id": request.path_params["run_id"], **overview(run)})

    def series(self, request: Request) -> Response:
        """Metrics by name, each in about `points` points; one that the run does not have yet is empty."""
        names = [name for name in request.query_params.get("names", "").split(",") if name]
        if not 0 < len(names) <= MAX_NAMES:
            raise HTTPException(400, f"names holds {len(names)} metrics; give 1 to {MAX_NAMES}, with commas")
        first, last = _integer(request, "first"), _integer(request, "last")
        points = _integer(request, "points", 1000, 2, MAX_POINTS)
        with self._open(request) as run:
            known = run.metric_ids()
            return StrictJSON(
                {
                    name: points_of(run.decimated(name, first=first, last=last, points=points or 2))
                    if name in known
                    else {"steps": [], "values": [], "errors": []}
                    for name in names
                }
            )

    def densities(self, request: Request) -> Response:
        """Spectral densities over the run, thinned evenly; the last one is always there."""
        limit = _integer(request, "limit", 200, 1, MAX_DENSITIES)
        with self._open(request) as run:
            densities = run.thinned_densities(limit)
        return StrictJSON({"steps": [density["step"] for density in densities], "densities": densities})

    def measurements(self, request: Request) -> Response:
        """Measurements of a kind over the run, thinned evenly.

        With `fields`, such as "verdict,blocks.name", each is its step and these alone, as flat columns by these names.
        """
        kind = request.query_params.get("kind", "")
        if not kind:
            raise HTTPException(400, "kind is missing: name one, such as kind=flow")
        limit = _integer(request, "limit", 200, 1, MAX_MEASUREMENTS)
        fields = [field for field in request.query_params.get("fields", "").split(",") if field]
        with self._open(request) as run:
            found = run.measurements(kind, limit)
        if fields:
            found = [{name: at_path(whole, name.split(".")) for name in ["step", *fields]} for whole in found]
        return StrictJSON({"steps": [one["step"] for one in found], "measurements": found})

    def reading(self, request: Request) -> Response:
        """The whole reading of a step."""
        step = request.path_params["step"]
        with self._open(request) as run:
            reading = run.reading_at(step)
        if reading is None:
            raise HTTPException(404, f"there is no reading at step {step}")
        return StrictJSON(reading)

    def acknowledge(self, request: Request) -> Response:
        """A person has seen an alert."""
        acknowledge(self._table.path(request.path_params["run_id"]), request.path_params["alert_id"])
        return Response(status_code=204)

    def answer(self, request: Request) -> Response:
        """A person has a proposed action applied, or dismisses it: the first answer counts."""
        asked = request.path_params
        answer(self._table.path(asked["run_id"]), asked["key"], asked["verb"])
        return Response(status_code=204)

    def _open(self, request: Request) -> Run:
        return self._table.open(request.path_params["run_id"])


def overview(run: Run) -> dict[str, Any]:
    """A run as the top of the page shows it; the reading comes without the arrays of its density."""
    meta = run.meta
    return {
        "name": run.name,
        "status": run.status,
        "config": meta.get("config", {}),
        "environment": meta.get("environment", {}),
        "last_step": run.last_step,
        "names": run.names,
        "reading": run.reading_at(density=False),
        "alerts": run.active_alerts,
        "history": run.alerts[-HISTORY:],
        "actions": run.actions[-HISTORY:],
        "measurements": {kind: run.latest(kind) for kind in run.kinds},
        "measuring_share": run.last_value("measuring_share"),
        "dropped": meta.get("dropped", 0),
    }


def at_path(value: Any, path: Sequence[str]) -> Any:
    """What lies at a path of names in nested JSON; of a list what lies there in each item; None where nothing does."""
    for depth, name in enumerate(path):
        if isinstance(value, list):
            return [at_path(item, path[depth:]) for item in value]
        value = value.get(name) if isinstance(value, dict) else None
    return value


def points_of(series: Series) -> dict[str, list[Any]]:
    """Arrays as lists; an error that was not stated is null."""
    errors = [None if math.isnan(error) else error for error in series.errors.tolist()]
    return {"steps": series.steps.tolist(), "values": series.values.tolist(), "errors": errors}


def _integer(
    request: Request, name: str, default: int | None = None, low: int = -(2**63), high: int = 2**63 - 1
) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise HTTPException(400, f"{name} is {text!r}, and must be a whole number from {low} to {high}")
    return number


def http_error(request: Request, error: Exception) -> Response:
    """An error that the framework raised, as one line."""
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    return StrictJSON({"error": error.detail}, status_code=error.status_code, headers=headers)


def input_error(request: Request, error: Exception) -> Response:
    """An error of ours, as one line: 404 not there, 409 too late, 422 a file that can't be used, 400 the rest."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
    return StrictJSON({"error": str(error)}, status_code=status)


def unexpected_error(request: Request, error: Exception) -> Response:
    """Anything else; the framework logs it with its traceback."""
    return StrictJSON({"error": f"the dashboard failed: {type(error).__name__}"}, status_code=500)
