"""The forward pass in parts: leading axes, sizes read off inputs, and the code of a gauge."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import sympy
import torch
import torch.nn.functional as F
from sympy import Rational, Symbol
from torch import Tensor

from codegen import generate
from codegen.forms import RECOGNISERS
from codegen.forward import ForwardWriter, batch_letters, input_value, shape_codes
from codegen.helpers import helper_code
from codegen.values import BATCH, Level, Value
from derive.derivation import derive
from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Read, size_symbol
from derive.resolve import resolve
from tests.codegen.specs import spec
from verify.instances import sample_one
from verify.interpret import Interpreter, TorchArithmetic
from verify.load import load_module

PARAMETERS = {"W": {"torch": "weight"}, "V": {"torch": "other"}, "b": {"torch": "bias"}}
SIZES = {x: f"{x}_size" for x in "ijkl"}


def layer(forward, site="n", *, unit="i", sizes=(), inputs=None, **more):
    """A spec with the parameters, and the sizes of parameters, that stand in its formula."""
    used = {s: PARAMETERS[s] for s in PARAMETERS if f"{s}[" in forward}
    known = {x: s for x, s in SIZES.items() if x in forward} | {x: f"{x}_size" for x in sizes}
    return spec("S", forward, site, unit, parameters=used, sizes=known, inputs=inputs, **more)


def program_of(forward, site="n", **more):
    return resolve(layer(forward, site, **more), frozenset())


# ---------------------------------------------------------------------- leading axes
@pytest.mark.parametrize(
    ("forward", "site", "wanted"),
    [
        ("z[n, i] = W[i, j]*x[n, j]", "n", "n"),
        ("z[n, m, i] = W[i, j]*x[n, m, j]", "n m", "n m"),
        ("z[n, m, i] = W[i, j]*x[n, j, m]", "n m", "n"),
        ("z[n, i] = W[i, j]*x[j, n]", "n", ""),
        ("z[(n, m), i] = W[i, j]*x[n, m, j]", "n m", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k]", "n", "n"),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[k]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[k, n]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[m, j]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n + 1, j]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j]/size(n)", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j]*size(j)", "n", "n"),
        ("z[n, i] = W[i, j]*softmax[m](x[m, j])*x[n, j]", "n", ""),
        ("z[n, i] = W[i, j]*softmax[j](x[n, j])", "n", "n"),
        ("h[j] = x[n, j]\nz[n, i] = W[i, j]*x[n, j]*h[j]", "n", ""),
        ("h[i] = V[i, j]*x[n, j]\nz[n, i] = W[i, j]*x[n, j]*h[i]", "n", ""),
        ("h[n, j] = x[n, j]**2\nz[n, i] = W[i, j]*h[n, j]", "n", "n"),
    ],
)
def test_leading_letters_are_those_that_a_layer_only_passes_through(forward, site, wanted):
    assert " ".join(x.name for x in batch_letters(program_of(forward, site))) == wanted


@pytest.mark.parametrize("forward", ["z[n, i] = W[n, i]*x[n]", "z[n, i] = W[n]*V[i]*x[n, i]"])
def test_a_parameter_of_a_letter_keeps_it_from_being_passed_through(forward):
    assert batch_letters(program_of(forward, sizes="n")) == ()


def test_a_letter_within_another_index_does_not_pass_through():
    forward = "z[n, i] = W[i, j]*x[n, j] + V[i, j]*y[n, n + j]"
    assert batch_letters(program_of(forward, inputs={"y": "n k"})) == ()
    assert len(batch_letters(program_of(forward.replace("n + j", "2*j"), inputs={"y": "n k"}))) == 1


def test_a_number_handed_in_lets_letters_pass_through():
    program = program_of("z[n, i] = W[i, j]*x[n, j]*t", inputs={"t": ""})
    assert [x.name for x in batch_letters(program)] == ["n"]


def test_letters_that_pass_through_are_one_leading_axis():
    program = program_of("z[n, m, i] = W[i, j]*x[n, m, j]", "n m")
    (x,) = program.inputs
    batch = batch_letters(program)
    assert input_value(x, batch) == Value("x", (BATCH, x.axes[2]))
    assert input_value(x, batch[:1]) == Value("x", (BATCH, *x.axes[1:]))
    assert input_value(x, ()) == Value("x", x.axes)


# ---------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("axes", "shape", "wanted"),
    [
        ("n c p", (2, 3, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (g c) p", (2, 21, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (c g) p", (2, 21, 5), {"n": 2, "c": 3, "p": 5}),
        ("(n c p) n p", (30, 2, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (g c) (p h)", (2, 21, 55), {"n": 2, "c": 3, "p": 5}),
        ("(n c) p", (6, 5), {"p": 5}),
    ],
)
def test_sizes_are_read_off_the_axes_of_an_input(axes, shape, wanted):
    """The sizes of g and h are 7 and 11, arguments of the layer."""
    sizes = {"g": "groups", "h": "heads"}
    known = {x: sizes[x] for x in sizes if x in axes}
    letters = ", ".join(x for x in "ncpgh" if x in axes)
    indices = re.sub(r"(?<=\w) (?=[\w(])|(?<=\)) ", ", ", axes)
    program = resolve(
        spec(
            "S",
            f"z[{letters}] = W*x[{indices}]",
            letters.replace(",", ""),
            "",
            parameters={"W": {"torch": "weight"}},
            sizes=known,
            inputs={"x": axes},
        ),
        frozenset(),
    )
    given = [input_value(t, ()) for t in program.inputs]
    attributes = {"groups": "self.groups", "heads": "self.heads"}
    found = shape_codes(program, given, attributes)
    names = {"x": torch.empty(shape), "self": SimpleNamespace(groups=7, heads=11)}
    assert {size: eval(code.code, names) for size, code in found.items()} == wanted
    for code in found.values():
        assert code.scalar
        assert (code.level == Level.PRODUCT) == ("//" in code.code)


# ---------------------------------------------------------------------- the writer
def writer_of(derivation, ansatz="output gauge"):
    program = derivation.program
    names = (*program.arguments, *program.spec.hyperparameters, "radius")
    attributes = {n: f"self.{n}" for n in names}
    correction = derivation.correction(ansatz)
    return ForwardWriter(derivation, correction, attributes, general=False, fused={})


def plain(**more):
    return layer("z[n, i] = W[i]*x[n] + V[i]*y[n]", **more)


def test_names_of_the_file_and_of_inputs_are_taken():
    low = writer_of(derive(plain())).lowering
    assert low.names == {"x", "y", "self", "torch", "F", "nn", "math"}
    assert low.device == "x.device"
    assert low.recognisers == RECOGNISERS


def test_a_writer_starts_with_nothing_singular_and_nothing_taken_apart():
    writer = writer_of(derive(plain()))
    assert not writer.singular
    assert not writer.taken_apart


def test_a_gauge_that_is_a_number_needs_no_bound(writer):
    number = Value("2.0", (), scalar=True)
    writer.singular = True
    assert writer.finite(number) == number
    assert "_finite" in writer.finite(Value("x", writer.lowering.values["x"].axes)).code


@pytest.mark.parametrize("ansatz", ["output gauge", "matrix gauge"])
def test_the_wide_type_is_left_behind_a_gauge(ansatz):
    forward = {"output gauge": "W[i, j]*x[n, j]", "matrix gauge": "W[i, j]*V[j, k]*x[n, k]"}
    writer = writer_of(derive(layer(f"z[n, i] = {forward[ansatz]}")), ansatz)
    writer.write()
    assert not writer.lowering.wide


def test_a_layer_without_inputs_is_where_its_parameter_is():
    assert writer_of(derive(layer("z[i] = W[i]", ""))).lowering.device == "self.weight.device"


X, Y = (Read(Symbol(name), Symbol("n")) for name in "xy")
NUMBERS = (-2.0, -1.0, -0.5, 0.0, 0.25, 3.0)


def evaluated(code, low, **tensors):
    """The value of a piece of code beside what was written before it."""
    names = {"Tensor": Tensor, "math": math, "torch": torch, **tensors}
    text = "\n".join(helper_code(low.helpers))
    exec("\n".join(["from __future__ import annotations", text, *low.statements]), names)
    return eval(code, names)


@pytest.fixture(scope="module")
def writer():
    """The writer of a layer with inputs x[n] and y[n]."""
    return writer_of(derive(plain()))


@pytest.fixture
def reads(writer):
    """Its inputs as they stand in formulas."""
    found = {r.tensor: r for r in writer.program.output.value.atoms(Read)}
    return found["x"], found["y"]


GAUGES = {
    "1/x": (lambda x, y: 1 / x, True),
    "1/x**2": (lambda x, y: x**-2, True),
    "1/x**3": (lambda x, y: x**-3, True),
    "2/x": (lambda x, y: 2 / x, True),
    "y/x": (lambda x, y: y / x, True),
    "y**2": (lambda x, y: y**2, False),
    "1/sqrt(1 + x**2)": (lambda x, y: (1 + x**2) ** Rational(-1, 2), False),
    "1/(1 + x**2)": (lambda x, y: 1 / (1 + x**2), False),
    "(1 + x**2)**(-3/2)": (lambda x, y: (1 + x**2) ** Rational(-3, 2), False),
    "1/sqrt(x**2 + y**2)": (lambda x, y: (x**2 + y**2) ** Rational(-1, 2), True),
    "1/(x**2 + y**2)": (lambda x, y: 1 / (x**2 + y**2), True),
    "(x**2 + y**2)**(-1/3)": (lambda x, y: (x**2 + y**2) ** Rational(-1, 3), True),
    "(x**2 + y**2)**(-2/3)": (lambda x, y: (x**2 + y**2) ** Rational(-2, 3), True),
    "1/(x + y)": (lambda x, y: 1 / (x + y), True),
    "sqrt(x**2 + y**2)": (lambda x, y: (x**2 + y**2) ** Rational(1, 2), False),
    "1/(x*(x**2 + y**2))": (lambda x, y: 1 / (x * (x**2 + y**2)), True),
}


@pytest.mark.parametrize("name", GAUGES)
def test_the_code_of_a_gauge_gives_its_value_and_0_where_it_is_infinite(name, writer, reads):
    formula, singular = GAUGES[name]
    writer.singular = False
    value = writer.inverse_powers(formula(*reads))
    assert writer.singular is singular
    a, b = sympy.symbols("a b")
    for x in NUMBERS:
        for y in NUMBERS:
            given = {"x": torch.tensor([x]).double(), "y": torch.tensor([y]).double()}
            found = float(evaluated(value.code, writer.lowering, **given).squeeze())
            wanted = formula(a, b).subs({a: Rational(x), b: Rational(y)})
            wanted = float(wanted) if wanted.is_finite else 0.0
            assert found == pytest.approx(wanted, rel=1e-12), (x, y)


@pytest.mark.parametrize(
    ("x", "y", "wanted"), [(0.0, 5e-324, 0.0), (5e-324, 0.0, 0.0), (2.0, 4.0, 0.125)]
)
def test_inverse_powers_of_the_least_numbers_are_0_beside_what_is_0(x, y, wanted, writer, reads):
    """1/y is infinite for the least number y, and 1/x is put to 0 where x is 0."""
    left, right = reads
    value = writer.inverse_powers(1 / (left * right))
    given = {"x": torch.tensor([x]).double(), "y": torch.tensor([y]).double()}
    assert evaluated(value.code, writer.lowering, **given).item() == wanted


def test_a_count_in_a_gauge_is_guarded_and_a_number_is_not():
    """1/sqrt(Σ_m [i + 1 = m]) is 0 at the last i; 1/sqrt(size(i)) is a number of Python."""
    writer = writer_of(derive(plain()))
    (i,) = writer.program.unit
    m = i.fresh()
    count = Contraction(Delta(i + 1 - m), m)
    given = {"x": torch.zeros(2).double(), "self": SimpleNamespace(i_size=3)}
    value = writer.inverse_powers(count ** Rational(-1, 2))
    found = evaluated(value.code, writer.lowering, **given)
    torch.testing.assert_close(found.squeeze(), torch.tensor([1.0, 1.0, 0.0]).double())
    number = writer.inverse_powers(size_symbol(i.size) ** Rational(-1, 2))
    assert number.scalar
    assert evaluated(number.code, writer.lowering, **given) == pytest.approx(3**-0.5)


def test_an_inverse_root_of_what_rounding_makes_negative_is_0(writer, reads):
    x, y = reads
    value = writer.inverse_powers((x + y) ** Rational(-1, 2))
    given = {"x": torch.tensor([-2.0, 3.0]).double(), "y": torch.tensor([1.0, 1.0]).double()}
    found = evaluated(value.code, writer.lowering, **given)
    torch.testing.assert_close(found.squeeze(), torch.tensor([0.0, 0.5]).double())


def test_a_power_that_is_not_rational_has_no_code(writer, reads):
    with pytest.raises(DerivationError, match="no code for the power"):
        writer.inverse_powers(reads[0] ** Symbol("a", negative=True))


@pytest.mark.parametrize(
    ("powers", "guarded"),
    [
        ((1,), False),
        ((2,), False),
        ((Rational(1, 2), 1), True),
        ((1, 1), True),
        ((Rational(1, 2), Rational(1, 2)), False),
        ((2, 1), True),
    ],
)
def test_infinities_are_taken_out_where_a_product_may_hold_them(powers, guarded, writer, reads):
    """Beside the least of the powers: where one factor is 0, the others may be infinite."""
    x, y = reads
    bases = (x**2 + y**2, x)
    product = sympy.Mul(*(b**-p for b, p in zip(bases, powers, strict=False)))
    assert ("nan_to_num" in writer.inverse_powers(product).code) is guarded


def test_a_count_of_nothing_makes_no_nan():
    """W[p + 1] moves nothing at the last p: λ = 1/(|x| √count) is 0 there, and for x = 0."""
    shifted = spec(
        "S",
        "z[p] = x*W[p + 1]",
        "p",
        "",
        parameters={"W": {"torch": "weight", "axes": "p"}},
        sizes={"p": "p_size"},
        inputs={"x": ""},
    )
    module = load_module(generate(shifted).text, "shifted")
    layer = module.AffineLikeS(3)
    signs = {-2.0: -1.0, 0.0: 0.0, 0.5: 1.0}
    for x, sign in signs.items():
        wanted = sign * F.pad(layer.weight[1:], (0, 1))
        torch.testing.assert_close(layer(torch.tensor(x)), wanted)


def test_a_constant_index_is_no_fan_in():
    """b[i, 1] takes one of a thousand columns, so that V beside it starts within ±1."""
    beside = spec(
        "S",
        "z[n, i] = b[i, 1] + x[n]*V[i]",
        parameters={"V": {"torch": "weight"}, "b": {"torch": "bias", "axes": "i k"}},
        sizes={"i": "i_size", "k": "k_size"},
    )
    module = load_module(generate(beside).text, "beside")
    torch.manual_seed(0)
    assert module.AffineLikeS(1000, 1000).weight.abs().max() > 0.9


# ---------------------------------------------------------------------- whole passes
SMALL = {
    "linear": layer("z[n, i] = W[i, j]*x[n, j] + b[i]"),
    "square and skip": layer("z[n, i] = W[i, j]*x[n, j]**2 + y[n, i]"),
    "two degrees": layer("z[n, i] = W[i, j]*x[n, j]**2 + 2*V[i, j]*x[n, j]**3 + b[i]"),
    "groups": layer(
        "z[n, (g, i), p] = W[(g, i), j]*x[n, (g, j), p] + b[(g, i)]", "n g p", sizes="g"
    ),
    "each unit": layer("z[n, (g, i)] = W[(g, i)]*x[n, (g, i)]", unit="g i", sizes="g"),
    "one number": layer("z[n, i] = 3*b[i] + x[n, i]"),
    "product": layer("z[n, i] = W[i, j]*V[j, k]*x[n, k]"),
    "product of heads": layer("z[n, i, l] = W[i, l, j]*V[j, k]*x[n, k]", unit="i l"),
    "columns": layer("z[i, n] = W[i, j]*V[j, k]*x[k, n]"),
    "plus one": layer("z[n, i] = W[i, j]*x[n, j] + 1"),
    "minus one": layer("z[n, i] = W[i, j]*x[n, j] - 1"),
    "one for all sites": layer("z[n, i] = W[j]*V[i, j] + x[n, i]"),
}
derivation_of = functools.cache(lambda name: derive(SMALL[name]))
SCALED = ("output gauge", "unit gauge", "input map")


def stored(tensor, value):
    """A tensor over its letters with its composed axes put together."""
    sizes = iter(value.shape)
    return value.reshape([math.prod(next(sizes) for _ in axis) for axis in tensor.axes])


def ran(writer, instance):
    """What the code of a forward pass gives for an instance, and the pass."""
    program, found = writer.program, writer.write()
    tensors = {k: torch.as_tensor(v).double() for k, v in instance.tensors.items()}
    given = {t.name: stored(t, tensors[t.name]) for t in program.inputs}
    own = {
        program.spec.parameters[t.name].torch: stored(t, tensors[t.name])
        for t in program.parameters
    }
    layer = SimpleNamespace(**own, **instance.symbols, radius=instance.radius)
    value = evaluated(found.result, writer.lowering, **given, self=layer, F=F)
    return value, tensors, found


def over(expression, letters, instance, tensors):
    """An expression by the reading of the notation that only verification uses."""
    symbols = {**instance.symbols, "radius": instance.radius}
    run = Interpreter(instance.sizes, symbols, tensors, TorchArithmetic())
    return run.over(expression, letters)


def corrected(correction, program, instance, tensors):
    """The corrected output over its letters, where the gauge is finite."""
    letters = program.output.letters
    if correction.ansatz == "matrix gauge":
        unit = tuple(program.unit)
        rows = (*program.site, *unit, *(x.primed for x in unit))
        z = over(program.output.value, (*program.site, *unit), instance, tensors)
        size = math.prod(z.shape[len(program.site) :])
        kernel = over(correction.gauge, rows, instance, tensors)
        kernel = kernel.reshape(*z.shape[: len(program.site)], size, size)
        flat = z.reshape(*z.shape[: len(program.site)], size, 1)
        solved = torch.linalg.solve_triangular(torch.linalg.cholesky(kernel), flat, upper=False)
        order = [(*program.site, *unit).index(x) for x in letters]
        return solved.reshape(z.shape).permute(order)
    gauge = over(correction.gauge, letters, instance, tensors)
    terms = correction.terms or ((1, program.output.value),)
    return sum(gauge**d * over(part, letters, instance, tensors) for d, part in terms)


def cases():
    for name in SMALL:
        for correction in derivation_of(name).corrections:
            if correction.applies and correction.ansatz in (*SCALED, "matrix gauge"):
                yield pytest.param(name, correction.ansatz, id=f"{name}-{correction.ansatz}")


@pytest.mark.parametrize(("name", "ansatz"), list(cases()))
def test_the_code_of_a_forward_pass_gives_the_corrected_output(name, ansatz):
    derivation = derivation_of(name)
    program = derivation.program
    for k in range(3):
        instance = sample_one(derivation, k, kinds=("varied",))
        writer = writer_of(derivation, ansatz)
        found, tensors, _ = ran(writer, instance)
        wanted = corrected(writer.correction, program, instance, tensors)
        output = program.tensors[program.output.target]
        torch.testing.assert_close(found, stored(output, wanted), rtol=1e-9, atol=1e-12)


def test_every_way_to_scale_is_among_them():
    found = {case.values[1] for case in cases()}
    assert found == {*SCALED, "matrix gauge"}


OPTIONAL = {"W": {"torch": "weight", "optional": True}, "b": {"torch": "bias"}}


@pytest.mark.parametrize(
    ("forward", "itself"),
    [
        ("z[i] = W[i, j]*x[j] + b[i]", True),
        ("z[i] = W[i, j]*x[j] + b[i] + y[i]", False),
        ("z[i, p] = W[i, j]*x[j, p] + b[i, p]", True),
        ("z[i] = W[i, j]*x[j] + b[i + 1]", False),
        ("z[i, p] = W[i, j]*x[j, p] + b[i, p + 1]", False),
    ],
)
def test_a_parameter_that_is_the_output_is_copied(forward, itself):
    """Without W, K is I and z is a parameter; what its user does to z must not change that."""
    parameters = {**OPTIONAL, "b": {"torch": "bias", "axes": "i p" if "p]" in forward else "i"}}
    sizes = {"i": "i_size", "j": "j_size", "p": "p_size"}
    sizes = {k: v for k, v in sizes.items() if k != "p" or "p]" in forward}
    made = spec(
        "S", forward, "", "i p" if "p]" in forward else "i", parameters=parameters, sizes=sizes
    )
    writer = writer_of(derive(made, frozenset("W")))
    assert writer.is_parameter() is itself
    if writer.correction.gauge == 1:
        found = writer.write()
        assert found.result.endswith(".clone()") is itself
        assert found.gauge is None


def test_rows_of_a_parameter_are_no_parameter():
    parameters = {**OPTIONAL, "E": {"torch": "table", "axes": "v i"}}
    sizes = {"i": "i_size", "j": "j_size", "v": "rows"}
    forward = "z[n, i] = W[i, j]*x[n, j] + E[t[n], i]"
    del parameters["b"]
    writer = writer_of(
        derive(spec("S", forward, parameters=parameters, sizes=sizes), frozenset("W"))
    )
    assert isinstance(writer.program.output.value, Read)
    assert not writer.is_parameter()


def test_an_input_that_is_the_output_is_no_parameter():
    writer = writer_of(derivation_of("linear"))
    x = Read(Symbol("x"), *writer.program.inputs[0].letters)
    line = replace(writer.program.output, value=x)
    writer.program = replace(writer.program, lines=(line,))
    assert not writer.is_parameter()


def assigned(statements):
    return [line.split(" = ")[0] for line in statements]


@pytest.mark.parametrize("ansatz", ["output gauge", "input map"])
def test_a_pass_says_where_its_lines_and_its_gauge_are(ansatz):
    made = layer("h[n, j] = x[n, j]**2\ng[n, j] = 2*h[n, j]\nz[n, i] = W[i, j]*g[n, j]")
    found = writer_of(derive(made), ansatz).write()
    before, (start, end) = found.statements[: found.lines], found.gauge
    assert assigned(before) == ["h", "g"]
    assert assigned(found.statements[found.lines : start]) == ["z"]
    assert assigned(found.statements[start:end])[-1] == "scale"
    assert found.statements[end:] == ()
    assert "scale" not in "".join(found.statements[:start])


def test_a_gauge_that_may_be_infinite_is_kept_finite_and_no_other():
    passes = {name: writer_of(derivation_of(name)).write() for name in ("linear", "groups")}
    bare = writer_of(derive(layer("z[n, i] = W[i, j]*x[n, j]"))).write()
    assert [bare.singular, *(p.singular for p in passes.values())] == [True, False, False]
    assert "_finite" in bare.helpers
    assert all("_finite" not in p.helpers for p in passes.values())


LENGTHS = {"n": 2, "g": 3, "i": 4, "p": 5, "h": 7}


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    ("axes", "repeated"),
    [("ngp", True), ("ngip", False), ("np", False), ("nip", False), ("gp", True), ("nih", False)],
)
def test_an_output_and_its_scale_are_lined_up(axes, repeated, apart):
    """A scale for each group is repeated, or z taken apart; a letter that z lacks comes with it."""
    writer = writer_of(derivation_of("groups"))
    writer.taken_apart |= apart
    letters = writer.program.letters
    unit = ((letters["g"], letters["i"]), (letters["p"],))
    z = Value("z", (BATCH, *unit))
    single = {"n": BATCH, **{x: (letters[x],) for x in "gip"}, "h": (letters["j"],)}
    scale = Value("scale", tuple(single[x] for x in axes))
    values, order = writer.beside(z, scale, Value("z", z.axes))
    given = {"z": torch.randn(2, 3 * 4, 5), "scale": torch.randn([LENGTHS[x] for x in axes])}
    layer = SimpleNamespace(g_size=3, i_size=4)
    left, right, last = (evaluated(v.code, writer.lowering, **given, self=layer) for v in values)
    names = "".join({v: k for k, v in single.items()}.get(a, "u") for a in order)
    assert ("u" in names) is ("repeat_interleave" in values[1].code)
    assert ("repeat_interleave" in values[1].code) is (repeated and not apart)
    whole = names.replace("u", "gi")
    full = torch.einsum(
        f"ngip,{axes}->{''.join(sorted(whole, key=whole.index))}",
        given["z"].view(2, 3, 4, 5),
        given["scale"],
    )
    torch.testing.assert_close((left * right).reshape(full.shape), full)
    torch.testing.assert_close(last, left)


def test_plain_axes_are_not_repeated():
    writer = writer_of(derivation_of("groups"))
    axes = (BATCH, (writer.program.letters["p"],))
    (left, right), order = writer.beside(Value("z", axes), Value("scale", axes))
    assert (left.code, right.code, order) == ("z", "scale", axes)


def test_what_comes_after_a_source_reads_sizes_and_device_off_it():
    made = layer("h[n, p, j] = x[n, p, j]**2\nz[n, p, i] = W[i, j]*h[n, p, j]*size(p)", "n p")
    writer = writer_of(derive(made))
    assert writer.lowering.sizes.letter(writer.program.letters["p"]).code == "x.shape[-2]"
    writer.lowering.source = "h"
    writer.write()
    assert writer.lowering.sizes.letter(writer.program.letters["p"]).code == "h.shape[-2]"
    assert writer.lowering.device == "h.device"


def test_a_frozen_gauge_carries_no_gradient_and_another_does():
    frozen = writer_of(derive(layer("z[n, i] = W[i, j]*V[j, k]*x[n, k]")), "matrix gauge")
    assert frozen.correction.frozen
    assert any(".detach()" in line for line in frozen.write().statements)
    assert ".detach()" not in "".join(writer_of(derivation_of("linear")).write().statements)
