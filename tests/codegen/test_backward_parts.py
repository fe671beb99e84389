"""The derived backward pass in parts: its sums, its code beside autograd, and where it serves."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from sympy import Mul, Symbol
from torch.autograd import forward_ad

from codegen import backward
from codegen.backward import BackwardWriter, apart, pays, write_backward
from codegen.backward_forms import over_rows, with_vector
from codegen.forward import ForwardWriter
from codegen.helpers import helper_code
from codegen.lower import Lowering
from codegen.sizes import SizeCode
from codegen.values import BATCH, Value
from derive.derivation import derive
from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Letter, Read
from derive.program import Tensor
from derive.resolve import resolve
from derive.spec import Parameter
from tests.codegen.specs import spec

SIZES = {"n": 2, "m": 3, "i": 4, "j": 5, "k": 6, "g": 3, "a": 3, "c": 2, "l": 7}

# ---------------------------------------------------------------------- recognised sums
AXES = {
    "u": ("intermediate", "nmi"),
    "w": ("intermediate", "nmi"),
    "x": ("input", "nmj"),
    "y": ("input", "nmjk"),
    "v": ("input", "nmki"),
    "s": ("input", "nmk"),
    "b": ("parameter", "i"),
    "d": ("parameter", "i"),
    "A": ("parameter", "ij"),
    "E": ("parameter", "ki"),
}
LETTERS = {x: Letter(x, x) for x in SIZES}
GENERATOR = torch.Generator().manual_seed(0)
TENSORS = {
    name: torch.randn([SIZES[x] for x in axes], generator=GENERATOR, dtype=torch.float64)
    for name, (_, axes) in AXES.items()
}
PROGRAM = replace(
    resolve(spec("S", "z[n, m, i] = W[i, j]*x[n, m, j] + b[i]", "n m"), frozenset()),
    tensors={
        name: Tensor(name, kind, tuple((LETTERS[x],) for x in axes))
        for name, (kind, axes) in AXES.items()
    },
)


def axes_of(letters):
    single = tuple((LETTERS[x],) for x in letters if x not in "nm")
    return (BATCH, *single) if letters.startswith("nm") else single


def total(factors, bound):
    """``u:nmi x:nmj`` and ``nm`` → Σ_nm u[n, m, i] x[n, m, j]."""
    pairs = [f.split(":") for f in factors.split()]
    reads = [Read(Symbol(name), *(LETTERS[x] for x in at)) for name, at in pairs]
    return Contraction(Mul(*reads), *(LETTERS[x] for x in bound))


def recognised(form, e):
    """What a form finds, and the lowering."""
    values = {name: Value(name, axes_of(axes)) for name, (_, axes) in AXES.items()}
    low = Lowering(
        PROGRAM, (LETTERS["n"], LETTERS["m"]), values, SizeCode(PROGRAM, {}, {}), "x.device"
    )
    return form(low, e, None), low


@pytest.mark.parametrize(
    ("form", "factors", "bound"),
    [
        (over_rows, "u:nmi", "nm"),
        (over_rows, "x:nmj", "mn"),
        (over_rows, "u:nmi x:nmj", "nm"),
        (over_rows, "x:nmj u:nmi", "nm"),
        (over_rows, "s:nmk x:nmj", "mn"),
        (with_vector, "b:i u:nmi", "i"),
        (with_vector, "u:nmi d:i", "i"),
        (with_vector, "b:i v:nmki", "i"),
        (with_vector, "b:i E:ki", "i"),
    ],
)
def test_recognised_sums_are_products_of_matrices(form, factors, bound):
    found, low = recognised(form, total(factors, bound))
    value, used_bias = found
    assert not used_bias
    names = {**TENSORS}
    exec("\n".join(helper_code(low.helpers)), {"torch": torch, "Tensor": torch.Tensor}, names)
    left = "".join("nm" if a is BATCH else a[0].name for a in value.axes)
    codes, operands = zip(*((f[2:], TENSORS[f[0]]) for f in factors.split()), strict=True)
    wanted = torch.einsum(f"{','.join(codes)}->{left}", *operands)
    torch.testing.assert_close(eval(value.code, names), wanted)
    assert not set(left) & set(bound)


@pytest.mark.parametrize(
    ("factors", "bound"),
    [
        ("x:nmj", "nmj"),
        ("u:nmi", "n"),
        ("b:i x:nmj", "nm"),
        ("A:ij x:nmj", "nm"),
        ("y:nmjk", "nm"),
        ("y:nmjk u:nmi", "nm"),
        ("u:nmi w:nmi", "nm"),
        ("u:nmi x:nmj s:nmk", "nm"),
        ("x:nmj x:nmj", "nm"),
        ("u:nmi x:nmj x:nmj", "nm"),
    ],
)
def test_sums_over_rows_are_of_one_or_two_tensors_of_rows_as_they_stand(factors, bound):
    assert recognised(over_rows, total(factors, bound))[0] is None


def test_a_sum_that_scatters_is_none_over_rows():
    x, n, m = total("x:nmj", "nm").body, LETTERS["n"], LETTERS["m"]
    assert recognised(over_rows, Contraction(x * Delta(LETTERS["i"] - 2), n, m))[0] is None


@pytest.mark.parametrize(
    ("factors", "bound"),
    [
        ("A:ij x:nmj", "j"),
        ("b:i d:i", "i"),
        ("b:i u:nmi w:nmi", "i"),
        ("b:i E:ki", "k"),
        ("b:i E:ki", "ik"),
        ("b:i E:ki", "ki"),
        ("b:i v:nmki", "k"),
        ("b:i A:ij", "i"),
        ("b:i x:nmj", "j"),
        ("b:i", "i"),
    ],
)
def test_products_with_a_vector_run_over_the_last_axis_alone(factors, bound):
    assert recognised(with_vector, total(factors, bound))[0] is None


# ---------------------------------------------------------------------- whole passes
PARAMETERS = {
    "W": {"torch": "weight"},
    "V": {"torch": "other"},
    "b": {"torch": "bias", "optional": True},
}
FULL = {"i": "rows", "j": "columns"}
WINDOW = {"c": "in_channels", "i": "out_channels", "k": "kernel_size", "p": "l - k + 1"}


def layer(forward, site="n", unit="i", sizes=FULL, **more):
    """A spec with the parameters that stand in its formula."""
    used = {s: PARAMETERS[s] for s in PARAMETERS if f"{s}[" in forward}
    return spec("Small", forward, site, unit, parameters=used, sizes=sizes, **more)


SMALL = {
    "rows": layer("z[n, m, i] = W[i, j]*x[n, m, j] + b[i]", "n m"),
    "one site": layer("z[i] = W[i, j]*x[j] + b[i]", ""),
    "columns": layer("z[i, n] = W[i, j]*x[j, n] + b[i]"),
    "squares before": layer("h[n, j] = x[n, j]**2\nz[n, i] = W[i, j]*h[n, j]/2"),
    "two powers": layer("z[i] = W[i, j]*x[j] + V[i, j]*x[j]**2", ""),
    "cubes": layer("z[i] = W[i, j]*x[j]**3", ""),
    "roots": layer("z[i] = W[i, j]*sqrt(4 - x[j]**2)", ""),
    "parts": layer(
        "z[a, c] = W[a]*x[(a, c)] + b[a]", "c", "a", {"a": "heads"}, inputs={"x": "(a c)"}
    ),
    "depthwise": layer(
        "z[n, i, p] = W[i, k]*x[n, i, p + k]",
        "n p",
        sizes={"i": "channels", "k": "kernel_size", "p": "l - k + 1"},
        inputs={"x": "n i l"},
    ),
    "window": layer(
        "z[n, i, p] = W[i, c, k]*x[n, c, p + k] + b[i]", "n p", sizes=WINDOW, inputs={"x": "n c l"}
    ),
    "groups": layer(
        "z[n, (g, i), p] = W[(g, i), c, k]*x[n, (g, c), p + k] + b[(g, i)]",
        "n g p",
        sizes={
            "(g, c)": "in_channels",
            "(g, i)": "out_channels",
            "k": "kernel_size",
            "g": "groups",
            "p": "l - k + 1",
        },
        inputs={"x": "n (g c) l"},
    ),
}
DERIVED = {name: derive(small) for name, small in SMALL.items()}


def forward_of(derivation, correction):
    program = derivation.program
    names = (*program.arguments, *program.spec.hyperparameters, "radius")
    attributes = {n: f"self.{n}" for n in names}
    return ForwardWriter(derivation, correction, attributes, general=False, fused={})


def correction_of(name):
    return next(c for c in DERIVED[name].corrections if c.applies)


def writer_of(name, correction=None):
    """The writer of a small layer's backward pass, for its first correction if none is given."""
    correction = correction or correction_of(name)
    return BackwardWriter(DERIVED[name], correction, forward_of(DERIVED[name], correction))


@functools.cache
def pass_of(name):
    return writer_of(name).write()


def drawn(program, dtype):
    """The module with its parameters, and the inputs, below 1 in magnitude."""
    spec_sizes = {s: re.findall(r"\w", x) for x, s in program.spec.sizes.items()}
    sizes = {s: math.prod(SIZES.get(x, 1) for x in letters) for s, letters in spec_sizes.items()}
    generator = torch.Generator().manual_seed(1)

    def draw(tensor):
        shape = [math.prod(SIZES[x.name] for x in axis) for axis in tensor.axes]
        return torch.rand(shape, generator=generator, dtype=dtype).sub(0.4).requires_grad_()

    parameters = {t.name: draw(t) for t in program.parameters}
    torch_names = {program.spec.parameters[s].torch: v for s, v in parameters.items()}
    module = SimpleNamespace(**torch_names, **sizes, radius=1.5)
    return module, parameters, {t.name: draw(t) for t in program.inputs}


def run(name, found, dtype=torch.float64):
    """Tensor → its gradient by the code of the backward pass and by autograd, and the values."""
    program = DERIVED[name].program
    (source,) = found.gradients.sources
    module, parameters, inputs = drawn(program, dtype)
    names = {"torch": torch, "F": F, "math": math, "Tensor": torch.Tensor, "self": module}
    names |= {"forward_ad": forward_ad, **inputs}
    code = "\n".join(helper_code(found.helpers))
    exec(f"from __future__ import annotations\n{code}", names)
    statements = found.forward.statements
    exec("\n".join(statements[: found.forward.lines]), names)
    names[source] = names[source].detach().requires_grad_()
    exec("\n".join(statements[found.forward.lines :]), names)
    output = eval(found.forward.result, names)
    names["grad"] = torch.randn(output.shape, dtype=dtype, generator=torch.Generator())
    tensors = {source: names[source], **parameters}
    wanted = torch.autograd.grad(output, list(tensors.values()), names["grad"])
    with torch.no_grad():
        exec("\n".join(found.shared), names)
        if found.joint is not None:
            call = f"{found.joint.call}(True, True, {bool(found.joint.bias)}))"
            names["h"], names["kernel"], names["sums"] = eval(call, names)
        exec("\n".join(found.source), names)
        given = {source: names[f"d{source}"]}
        given |= {s: eval(c, names) for s, c in found.parameters.items()}
        if found.joint is not None:
            weight, stored = found.joint.weight
            torch.testing.assert_close(eval(f"kernel{stored}", names), given[weight])
            if found.joint.bias:
                torch.testing.assert_close(names["sums"], given[found.joint.bias])
    pairs = {k: (given[k], w) for k, w in zip(tensors, wanted, strict=True)}
    return pairs, names


def own_names(code):
    return [re.match(r"\w+(?= = )", line)[0] for line in code]


@pytest.mark.parametrize("name", SMALL)
def test_the_code_of_a_backward_pass_gives_the_gradients_of_autograd(name):
    found = pass_of(name)
    pairs, _ = run(name, found)
    for given, wanted in pairs.values():
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-12)
    steps = [s.name for s in found.gradients.steps]
    assert own_names(found.shared) == steps[:1]
    (source,) = found.gradients.sources
    assert own_names(found.source)[-1] == f"d{source}"
    given = found.joint is not None
    assert [n for n in own_names(found.source) if n in steps] == steps[1 + given :]


@pytest.mark.parametrize("name", ["rows", "window"])
def test_an_input_map_has_gradients_of_what_it_leaves_as_it_is(name):
    pairs, _ = run(name, writer_of(name, DERIVED[name].correction("input map")).write())
    for given, wanted in pairs.values():
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-12)


def test_gradients_have_the_dtype_of_their_tensors_and_the_scale_a_wide_one():
    pairs, names = run("rows", pass_of("rows"), torch.float32)
    assert names["scale"].dtype == torch.float64
    assert names["u"].dtype == torch.float32
    for given, wanted in pairs.values():
        assert given.dtype == torch.float32
        torch.testing.assert_close(given, wanted)


FUSED = {
    "rows": "-1",
    "one site": "-1",
    "squares before": "-1",
    "roots": "1",
    "window": "-1",
    "groups": "-1",
    "depthwise": "-1",
}


@pytest.mark.parametrize("name", SMALL)
def test_one_tensor_times_one_factor_a_site_is_added_in_place(name):
    """Its sign is an argument; several terms, and powers of the tensor, are left as they are."""
    last = pass_of(name).source[-1]
    found = re.search(r"_add_product\((.*), (-?1)\)", last)
    assert (found and found[2]) == FUSED.get(name)
    assert found is None or not re.search(r"-[a-z]", found[1])


def test_a_gradient_of_composed_axes_is_taken_apart_where_the_pass_leaves_it():
    """Not by views that are kept, as in a forward pass that is not compiled."""
    found = pass_of("groups")
    assert "repeat_interleave" not in found.forward.result
    code = "\n".join((*found.shared, *found.source, *found.parameters.values()))
    assert "_unflatten(" in code
    assert "_flatten(" in code
    assert not re.search(r"torch\.unflatten|\.flatten", code)


@pytest.mark.parametrize(("name", "rank"), [("rows", None), ("window", 3), ("depthwise", 3)])
def test_only_what_a_window_reads_has_a_known_number_of_axes(name, rank):
    found = pass_of(name)
    assert found.rank == rank
    assert (found.joint is not None) is (rank is not None)


@pytest.mark.parametrize("name", ["rows", "window"])
def test_the_tensors_of_both_passes_are_known_by_their_names(name):
    writer = writer_of(name)
    tensors, g = writer.low.program.tensors, writer.gradients
    own = {g.upstream.tensor, g.scale.name, *(s.name for s in g.steps)}
    assert set(tensors) == {*writer.program.tensors, *own}
    for key, tensor in tensors.items():
        assert tensor.name == key
        assert key not in own or tensor.kind == "intermediate"


@pytest.mark.parametrize(("name", "source"), [("rows", "x"), ("squares before", "h")])
def test_a_backward_pass_takes_dtypes_from_the_tensor_that_it_has(name, source):
    low = writer_of(name).low
    assert low.dtype() == f"{source}.dtype"


# ---------------------------------------------------------------------- where none is written
def bare(forward, site="n", **more):
    return spec("Small", forward, site, "i", parameters={"W": {"torch": "weight"}}, **more)


REFUSED = {
    "more than one tensor": layer("z[n, i] = W[i]*x[n] + V[i]*y[n]", sizes={"i": "rows"}),
    "a window without a leading axis": bare(
        "z[i, p] = W[i, k]*x[p + k]",
        "p",
        sizes={"i": "rows", "k": "kernel_size", "p": "l - k + 1"},
        inputs={"x": "l"},
    ),
    "the source has another name": bare(
        "j_index[n, j] = x[n, j + 1]\nz[n, i] = W[i, j]*j_index[n, j]", inputs={"x": "n j"}
    ),
}
REFUSED_DERIVED = {reason: derive(made) for reason, made in REFUSED.items()}


SQUARE = derive(layer("z[n] = (W[j]*x[n, j])**2", unit="", sizes={"j": "columns"}))
FROZEN = SQUARE, next(c for c in SQUARE.corrections if c.applies)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_backward_pass_of_its_own_is_refused(reason):
    derivation = REFUSED_DERIVED[reason]
    correction = derivation.correction("output gauge")
    with pytest.raises(DerivationError, match=reason):
        BackwardWriter(derivation, correction, forward_of(derivation, correction))


def test_a_frozen_gauge_is_refused():
    with pytest.raises(DerivationError, match="frozen"):
        BackwardWriter(*FROZEN, forward_of(*FROZEN))


def test_a_gauge_that_is_a_matrix_is_refused():
    """Even one whose entries are one power, as those of a scale are."""
    correction = replace(correction_of("one site"), ansatz="matrix gauge")
    with pytest.raises(DerivationError, match="a matrix"):
        writer_of("one site", correction)


@pytest.mark.parametrize(("name", "pay"), [("rows", True), ("groups", True), ("columns", False)])
def test_sums_that_torch_has_no_function_for_do_not_pay(name, pay):
    assert pays(pass_of(name)) is pay


@pytest.mark.parametrize("slow", ["torch.einsum(x)", "_gather(x)", "_take(x)"])
@pytest.mark.parametrize("part", ["shared", "source", "parameters"])
def test_they_pay_nowhere(part, slow):
    found = pass_of("one site")
    held = getattr(found, part)
    more = {**held, "W": slow} if part == "parameters" else (*held, f"y = {slow}")
    assert pays(found)
    assert not pays(replace(found, **{part: more}))


class TestApart:
    """Names of a spec become arguments of both passes, beside what these name themselves."""

    FOUND = writer_of("rows").write()
    PROGRAM = DERIVED["rows"].program

    def with_spec(self, **changes):
        return replace(self.PROGRAM, spec=replace(self.PROGRAM.spec, **changes))

    def test_as_it_is(self):
        assert apart(self.FOUND, self.PROGRAM)

    @pytest.mark.parametrize(
        "name", ["z", "energy", "u", "h", "a", "dx", "grad", "scale", "ctx", "x"]
    )
    def test_a_name_of_both_is_seen(self, name):
        assert not apart(self.FOUND, self.with_spec(hyperparameters={name: 1.0}))
        assert not apart(self.FOUND, self.with_spec(parameters={"W": Parameter(torch=name)}))
        assert not apart(self.FOUND, replace(self.PROGRAM, arguments={name: 0}))
        assert apart(self.FOUND, self.with_spec(hyperparameters={f"{name}_": 1.0}))

    @pytest.mark.parametrize("part", ["scale", "upstream"])
    def test_so_is_another_name_for_what_comes_from_outside(self, part):
        g = self.FOUND.gradients
        other = {"scale": replace(g.scale, name="scale2"), "upstream": Read(Symbol("grad2"))}
        changed = replace(g, **{part: other[part]})
        assert not apart(replace(self.FOUND, gradients=changed), self.PROGRAM)

    def test_a_line_before_the_last_may_be_the_source(self):
        name = "squares before"
        assert apart(pass_of(name), DERIVED[name].program)


ROWS = layer("z[n, i] = W[i, j]*x[n, j] + b[i]")
VARIANTS = {
    absent: (d, d.correction("output gauge"))
    for absent, d in ((a, derive(ROWS, a)) for a in (frozenset(), frozenset("b")))
}


def written(variants, **more):
    forwards = {absent: forward_of(*found) for absent, found in variants.items()}
    return write_backward("SmallRows", variants, forwards, {"bias": "Tensor | None"}, **more)


def test_a_class_has_one_function_for_all_of_its_variants():
    found = written(VARIANTS)
    assert (found.gauge, found.name) == ("_small_rows_gauge", "_SmallRowsFunction")
    assert found.arguments == ("x: Tensor", "weight: Tensor", "bias: Tensor | None")
    assert "if bias is None:" in "\n".join(found.gauge_body)
    given = "\n".join(written(VARIANTS, gauge="gauge_of(x)").forward)
    assert "scale = gauge_of(x)" in given
    assert found.gauge not in given


@pytest.mark.parametrize("part", ["pays", "apart"])
@pytest.mark.parametrize("wrong", [frozenset(), frozenset("b")])
def test_it_has_none_where_that_of_one_variant_does_not_serve(monkeypatch, part, wrong):
    def serves(found, *_):
        return ("b" in found.parameters) is bool(wrong)

    monkeypatch.setattr(backward, part, serves)
    assert written(VARIANTS) is None


def test_or_where_one_variant_has_no_backward_pass():
    assert written({**VARIANTS, frozenset("b"): FROZEN}) is None
