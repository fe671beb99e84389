"""Shipped specs, random points of a layer, and a Jacobian that knows nothing of derivations."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import truestep
from derive import Derivation, LayerSpec, derive_variants, load_spec
from derive.evaluate import Evaluator, run_program
from derive.nodes import Letter
from derive.points import random_sizes, random_tensors, with_lines
from derive.program import Program
from derive.resolve import resolve
from derive.update import Update, derive_update

SPECS = Path(truestep.__file__).parent / "specs"
NAMES = tuple(sorted(path.stem for path in SPECS.glob("*.toml")))
LARGEST_OUTPUT = 150


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``name`` runs once for every shipped spec."""
    if "name" in metafunc.fixturenames and "name" not in {
        argument
        for mark in metafunc.definition.iter_markers("parametrize")
        for argument in str(mark.args[0]).replace(" ", "").split(",")
    }:
        metafunc.parametrize("name", NAMES)


@dataclass(frozen=True)
class Point:
    """A layer, its update and values for everything that they read."""

    program: Program
    update: Update
    evaluator: Evaluator

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.evaluator.sizes

    def __getitem__(self, tensor: str) -> np.ndarray:
        return np.asarray(self.evaluator.tensors[tensor])

    def kernel(self) -> np.ndarray:
        """K(s,s') as a matrix over the flattened output."""
        letters = self.program.output.letters
        kernel = self.evaluator.array(self.update.kernel, (*letters, *(x.primed for x in letters)))
        return kernel.reshape(self[self.program.output.target].size, -1)

    def over(self, expression: Any, *letters: Letter) -> np.ndarray:
        return self.evaluator.array(expression, letters)

    def jacobian(self) -> np.ndarray:
        """∂z/∂θ by central differences, rows over the flattened output."""
        columns = []
        tensors = {t.name: self[t.name] for t in (*self.program.inputs, *self.program.parameters)}
        for parameter in self.program.parameters:
            value = tensors[parameter.name]
            for index in np.ndindex(value.shape):
                sides = []
                for step in (1e-6, -1e-6):
                    moved = value.copy()
                    moved[index] += step
                    at = Evaluator(
                        self.sizes, {**tensors, parameter.name: moved}, self.evaluator.symbols
                    )
                    sides.append(run_program(self.program, at)[self.program.output.target].ravel())
                columns.append((sides[0] - sides[1]) / 2e-6)
        return np.stack(columns, axis=1)


@pytest.fixture
def shipped() -> Callable[[str], LayerSpec]:
    return lambda name: load_spec(SPECS / f"{name}.toml")


@functools.cache
def all_variants(name: str) -> Mapping[frozenset[str], Derivation]:
    return derive_variants(load_spec(SPECS / f"{name}.toml"))


@pytest.fixture
def derivations() -> Callable[[str], Mapping[frozenset[str], Derivation]]:
    """Every variant of a shipped layer, derived once for all tests that look at what comes out."""
    return all_variants


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def redrawn(spec: LayerSpec, rng: np.random.Generator) -> LayerSpec:
    """The spec with other integer hyperparameters, among those that every layer accepts."""
    ranges = {"stride": (1, 2), "dilation": (1, 2), "padding": (0, 1), "groups": (1, 2)}
    values = dict(spec.hyperparameters)
    for key, value in values.items():
        if key in ranges:
            low, high = ranges[key]
            drawn = rng.integers(low, high + 1, size=len(value) if isinstance(value, tuple) else 1)
            values[key] = tuple(map(int, drawn)) if isinstance(value, tuple) else int(drawn[0])
    return spec.with_(hyperparameters=values)


@pytest.fixture
def draw(rng: np.random.Generator) -> Callable[..., Point]:
    """A random small instance of a spec."""

    def make(
        spec: LayerSpec, absent: frozenset[str] = frozenset(), low: int = 1, high: int = 3
    ) -> Point:
        for _ in range(200):
            program = resolve(redrawn(spec, rng), absent)
            sizes, symbols = random_sizes(program, rng, low, high)
            if np.prod([sizes[x.size] for x in program.output.letters]) <= LARGEST_OUTPUT:
                break
        tensors = random_tensors(program, sizes, rng)
        if spec.name == "BatchNormEvalLinear":
            tensors["v"] = np.abs(tensors["v"]) + 0.5
        evaluator = with_lines(program, Evaluator(sizes, tensors, symbols))
        return Point(program, derive_update(program), evaluator)

    return make
