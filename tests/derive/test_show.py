"""Whole derivations: golden text, the same bytes under every hash seed, no internals in sight."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from derive import derive
from derive.mathml import lines, mathml
from derive.show import latex_words, words_html
from derive.steps import steps

ROOT = Path(__file__).parents[2]

LINEAR = """\
Linear
======

1. Forward map
   Site s: n. Unit: i. Parameters: W, b.
       z[n,i] = Σ_j W[i,j] x[n,j] + b[i]

2. Gradient of z with respect to each parameter
       ∂z[n,i]/∂W[i',j] = δ_ii' x[n,j]
       ∂z[n,i]/∂b[i'] = δ_ii'
   No gradient depends on a parameter: z is affine in the parameters.

3. Kernel K(s,s')
   Definition:
       K(s,s') = Σ_θ (∂z_s/∂θ) (∂z_s'/∂θ)ᵀ
   By parameter:
       K_W(s,s') = δ_ii' Σ_j x[n,j] x[n',j]
       K_b(s,s') = δ_ii'
   In total:
       K(s,s') = δ_ii' (1 + Σ_j x[n,j] x[n',j])

4. Self part and interference
   At s' = s:
       K(s,s) = δ_ii' (1 + Σ_j x[n,j]²)
   Interference: K(s,s') of the step before, for s' ≠ s. No map that looks at one site removes it.

5. Class and divergence
   K(s,s) is isotropic, K(s,s) = κ(s) I with
       κ(s) = 1 + ‖x[n]‖²
   It depends on the input and not on the parameters.
   Induced update:
       Δz_s = -η K(s,s) g_s - η Σ_{s'≠s} K(s,s') g_s'
   Ideal update:
       Δ*z_s = -η g_s
   Self-divergence:
       K(s,s) - I = δ_ii' ‖x[n]‖²
   The induced update is exact at every finite η.

6. Output gauge: z̃ = λ(s) z
   Put z̃ = λ(s) z through the derivation: K̃(s,s) = κ̃ I with κ̃:
       κ̃ = λ² (1 + ‖x[n]‖²)
   Solve κ̃ = c for λ(s):
       λ(s) = √c/√(1 + ‖x[n]‖²)
   Choose c = 1:
       λ(s) = 1/√(1 + ‖x[n]‖²)
   The corrected layer:
       z̃[n,i] = (Σ_j W[i,j] x[n,j] + b[i])/√(1 + ‖x[n]‖²)
   Rate of K̃(s,s) = c I; exact: c = 1 at every finite η.
       c = 1
   Corrected kernel, interference included:
       K̃(s,s') = δ_ii' λ[n] λ[n'] (1 + Σ_j x[n,j] x[n',j])
   Unchanged by scaling the input: no. Smooth at zero input: yes. Free of the parameters: yes. \
Degrees of freedom of the input lost: 0.

7. Input map: z̃ = z(μ(s) x)
   Put z̃ = z(μ(s) x) through the derivation: κ(μx):
       κ(μx) = 1 + μ² ‖x[n]‖²
   Choose c = κ(0) + radius²:
       c = 1 + radius²
   Solve κ(μx) = c for μ(s):
       μ(s) = radius/‖x[n]‖
   The corrected layer:
       z̃[n,i] = radius (Σ_j W[i,j] x[n,j])/‖x[n]‖ + b[i]
   Rate of K̃(s,s) = c I; constant-rate: the true step at learning rate c·η, at every finite η.
       c = 1 + radius²
   Corrected kernel, interference included:
       K̃(s,s') = δ_ii' (1 + μ[n] μ[n'] Σ_j x[n,j] x[n',j])
   Unchanged by scaling the input: yes. Smooth at zero input: no. Free of the parameters: yes. \
Degrees of freedom of the input lost: 1.

8. Split gauge: z̃ = λ(s) (varying part) + ν(s) (constant part)
   Equation:
       ν² + λ² ‖x[n]‖² = c
   Solution, ν and c free:
       λ(s) = √(c - ν²)/‖x[n]‖
   Exactness constant-rate: the true step at learning rate c·η, at every finite η.
   A one-parameter family: ν is free.
   Member affine-like:
       λ = 1/√(1 + ‖x[n]‖²), ν = 1/√(1 + ‖x[n]‖²), c = 1
   Member norm-like:
       λ = radius/‖x[n]‖, ν = 1, c = 1 + radius²

9. Unit gauge: z̃_i = λ_i(s) z_i
   Does not apply: K(s,s) is isotropic: the unit gauge is the output gauge.

10. Matrix gauge: z̃ = Λ(s) z
   Does not apply: K(s,s) is isotropic: the output gauge does it.
"""

DIGESTS = """
import hashlib, json
from pathlib import Path
from derive import derive, load_spec
import truestep
specs = Path(truestep.__file__).parent / "specs"
for name in ("linear", "conv2d", "gated_linear", "low_rank", "instance_norm_conv"):
    d = derive(load_spec(specs / f"{name}.toml"))
    shown = d.to_text() + d.to_latex() + json.dumps(d.to_json()) + d._repr_html_()
    print(hashlib.sha256(shown.encode()).hexdigest())
"""


def test_golden_text_of_linear(shipped):
    assert derive(shipped("linear")).to_text() == LINEAR


def test_the_same_under_every_hash_seed():
    outputs = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == 5


def test_no_internals_show(name, derivations):
    """No marks of bound copies, no SymPy constructors, and every formula becomes MathML."""
    derivation = derivations(name)[frozenset()]
    data = derivation.to_json()
    assert json.loads(json.dumps(data)) == data
    texts = [derivation.to_text(), derivation.to_latex(), json.dumps(data, ensure_ascii=False)]
    for text in texts:
        assert not re.search(r"[~#@]\d|Symbol\(|Dummy|Contraction|_\{\}|\*\*", text)
    for step in steps(derivation):
        for statement in step.statements:
            assert bool(statement.text) == bool(statement.latex)
            if statement.latex:
                assert statement.latex.count("{") == statement.latex.count("}")
                assert statement.latex.isascii()
                root = ET.fromstring(mathml(statement.latex))
                assert "".join(root.itertext()).strip()
                assert "\\" not in "".join(root.itertext())


def test_latex_is_plain_where_latex_text_must_be(name, derivations):
    """Outside of formulas no sign is left that pdflatex does not know."""
    body = derivations(name)[frozenset()].to_latex()
    words = re.sub(r"\$[^$]*\$|\\\[.*?\\\]", "", body, flags=re.DOTALL)
    assert words.isascii(), [c for c in words if not c.isascii()]


def test_json_says_what_was_found(shipped):
    data = derive(shipped("linear")).to_json()
    assert data["kind"] == "isotropic"
    assert data["affine"] is True
    gauge = next(c for c in data["corrections"] if c["ansatz"] == "input map")
    assert gauge["gauge"] == {
        "text": "radius/‖x[n]‖",
        "latex": r"\frac{\mathrm{radius}}{\left\lVert x_{n} \right\rVert}",
    }
    assert gauge["exactness"] == "constant-rate"
    assert gauge["side_conditions"]["freedom_lost"] == 1


def test_nothing_to_correct_is_said(shipped):
    text = derive(shipped("embedding")).to_text()
    assert "K(s,s) = I already: there is nothing to correct." in text
    assert "κ(s) = 1" in text


def test_absent_parameters_are_named(shipped):
    text = derive(shipped("linear"), frozenset({"b"})).to_text()
    assert text.startswith("Linear without b\n")
    assert "b[i]" not in text


def test_html_holds_every_formula(shipped):
    derivation = derive(shipped("linear"))
    root = ET.fromstring(derivation._repr_html_())
    formulas = sum(1 for s in steps(derivation) for x in s.statements if x.latex)
    assert len(root.findall(".//math")) == formulas
    assert len(root.findall(".//li")) == 10


def test_words_in_html_and_latex():
    assert words_html("z̃_i < κ_i(s')") == "z̃<sub>i</sub> &lt; κ<sub>i</sub>(s′)"
    assert latex_words("κ̃ ≠ 50 %") == r"$\tilde{\kappa}$ $\neq$ 50 \%"


def test_long_formulas_break_only_outside_brackets():
    tex = r"K = a_{i + j} + \left(b + c\right) - d"
    assert lines(tex, 1) == ["K = a_{i + j}", r"\quad {} + \left(b + c\right)", r"\quad {} - d"]
    assert lines(tex, 1000) == [tex]


@pytest.mark.parametrize(
    ("tex", "inner"),
    [
        (
            "x_{n'j}",
            "<msub><mi>x</mi><mrow><mrow><mi>n</mi><mi>′</mi></mrow><mi>j</mi></mrow></msub>",
        ),
        (r"\mathrm{in\_size}", "<mi>in_size</mi>"),
        (r"\left(\sum_{j} a\right)", "<munder><mo>∑</mo>"),
        (r"\operatorname{silu}\left(a\right)", "<mi>silu</mi>"),
    ],
)
def test_mathml_is_tidied(tex, inner):
    assert inner in mathml(tex)
