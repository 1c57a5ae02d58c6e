"""The benchmark's results file: one JSON line a figure, so that an interrupted run goes on where it stopped.

A figure is kept with what it depends on: ``code``, for EVA's own rows a digest of the bandit's code, for a rival's of its
adapter, for both of the run and of the surface; and ``libraries``, the versions of a rival's libraries. A figure of which
either no longer holds stays in the file, is not shown, and is made again. A library that is not installed here is no
reason to hide what was measured with it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import bandit_rivals, bandit_runs
from benchmarks.bandit_surfaces import make_surface

ROOT = Path(__file__).resolve().parent.parent
# What decides about a choice and the bet, in every part and beside it in one part; the other modules keep books and explain.
DECIDING = ("kernel", "rows", "model", "fit", "policies")
ALSO = {"minutes": ("cost",), "budget": ("cost", "prices"), "human": ("learner",)}
LIBRARIES = {
    "random": ("numpy",),
    "tpe": ("optuna",),
    "tpe-again": ("optuna",),
    "optuna-gp": ("optuna", "torch"),
    "sklearn-gp": ("scikit-learn",),
}
ADAPTERS = {
    "random": "RandomSearch",
    "tpe": "OptunaSampler",
    "tpe-again": "OptunaSampler",
    "optuna-gp": "OptunaSampler",
    "sklearn-gp": "SklearnGpUcb",
}


@dataclass(frozen=True)
class Cell:
    """One figure: regret of ``who`` in ``part`` on one surface after ``at`` pulls (or minutes)."""

    part: str
    family: str
    seed: int
    who: str
    at: int


def _meaning(source: str) -> str:
    """The code without comments and docstrings: what it does, not how it is described."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _digest(*parts: str | bytes) -> str:
    h = hashlib.sha256()
    for part in parts:
        h.update(part.encode("utf-8") if isinstance(part, str) else part)
        h.update(b"\0")
    return h.hexdigest()[:12]


@lru_cache
def _bandit_code(part: str) -> str:
    paths = [ROOT / "eva_p1" / f"bandit_{name}.py" for name in DECIDING + ALSO.get(part, ())]
    return _digest(*(_meaning(path.read_text(encoding="utf-8")) for path in paths))


@lru_cache
def _surface(family: str, seed: int) -> str:
    surface = make_surface(family, seed)
    return _digest(surface.quality.tobytes(), surface.minutes.tobytes(), str(surface.noise))


@lru_cache
def _runner(part: str) -> str:
    return _digest(_meaning(inspect.getsource(bandit_runs.RUNS[part])))


@lru_cache
def _optimiser(who: str, part: str) -> str:
    if who == "ucb1":  # EVA's code, but nothing of the model takes part in its choices
        from eva_p1.bandit_policies import ucb1

        return _digest(_meaning(inspect.getsource(ucb1)))
    if who not in ADAPTERS:
        return "eva " + _bandit_code(part)
    return _digest(_meaning(inspect.getsource(getattr(bandit_rivals, ADAPTERS[who]))))


@lru_cache
def libraries_of(who: str) -> dict[str, str]:
    """``{library: version}`` of those installed here that this optimiser's figures depend on."""
    found = {}
    for name in LIBRARIES.get(who, ()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_of(cell: Cell) -> str:
    """What the figure of this cell depends on."""
    return f"{_optimiser(cell.who, cell.part)} / {_runner(cell.part)} / {_surface(cell.family, cell.seed)}"


class Results:
    """Figures by cell. ``path`` None keeps them in memory. Several processes may append to one file at the same time."""

    def __init__(self, path: Path | None):
        self._path = path
        self._known: dict[tuple[Cell, str], float] = {}
        if path is not None and path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    item = json.loads(line)
                    cell = Cell(**{name: item[name] for name in ("part", "family", "seed", "who", "at")})
                    code, value, libraries = str(item["code"]), float(item["value"]), dict(item["libraries"])
                except (ValueError, TypeError, KeyError) as error:
                    raise SystemExit(f"{path}, line {number}: not a figure of this benchmark ({error}); mend or remove the line") from error
                here = libraries_of(cell.who)
                if all(here.get(name, used) == used for name, used in libraries.items()):
                    self._known[cell, code] = value

    def get(self, cell: Cell) -> float | None:
        return self._known.get((cell, code_of(cell)))

    def put(self, cells: list[Cell], values: list[float], cpu_s: float) -> None:
        """Takes in the figures of one run, ``cpu_s`` seconds of CPU together, and writes them down at once."""
        lines = []
        for cell, value in zip(cells, values, strict=True):
            code = code_of(cell)
            self._known[cell, code] = value
            item = {**asdict(cell), "value": value, "cpu_s": round(cpu_s, 3), "code": code, "libraries": libraries_of(cell.who)}
            lines.append(json.dumps(item))
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in lines))
