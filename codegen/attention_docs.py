"""The words of a generated attention file; every formula in them comes from the derived stages."""

from __future__ import annotations

from codegen.attention_stages import Attention
from codegen.docs import EXACTNESS, sentence, wrapped
from derive.formula import formula

INDENT = "    "
UNCORRECTED = (
    "interference, i.e. what other tokens' and samples' gradients do to a token through the shared "
    "parameters; the softmax; the tokens of add_bias_kv, which are parameters and take the true "
    "step already; the token of add_zero_attn, which is constant"
)
TWIN = (
    "Parameters have the names, layout and initial values of nn.MultiheadAttention; state dicts "
    "load both ways. As there, a row of the attention that the masks leave empty is NaN with "
    "need_weights=True and 0 without, and second derivatives and forward mode need "
    "need_weights=True or the math backend of torch.nn.attention.sdpa_kernel."
)
ARGUMENTS = (
    ("embed_dim", "features of query and output"),
    ("num_heads", "number of heads; divides embed_dim"),
    ("dropout", "dropout probability of the attention weights in training"),
    ("bias", "whether the four projections have biases"),
    ("add_bias_kv", "append a learned token to keys and values"),
    ("add_zero_attn", "append a zero token to keys and values"),
    ("kdim, vdim", "features of key and of value; embed_dim if None"),
    ("batch_first", "inputs are (N, L, E) in place of (L, N, E)"),
    ("device, dtype", "of the parameters"),
    ("score_gauge", "correct the score too; takes the explicit softmax, never the fused kernel"),
)


def block(text: str, level: int = 1) -> list[str]:
    """A wrapped paragraph or item."""
    return wrapped(text, INDENT * level, INDENT * (level + (level > 1)))


def gauge_formulas(attention: Attention, name: str) -> list[str]:
    """λ of a stage: one formula, or one with and one without biases."""
    full, bare = (
        formula(s.correction.gauge, s.program)
        for s in (attention.stages[name, True], attention.stages[name, False])
    )
    return [full] if full == bare else [full, f"{bare} without bias"]


def exactness(attention: Attention, name: str) -> str:
    """How far the claim of a stage goes."""
    stage = attention.stages[name, True]
    c = formula(stage.correction.rate, stage.program)
    return f"c = {c}, {stage.correction.exactness}"


def function_doc(summary: str, formulas: list[str], more: str = "") -> str:
    """A docstring: a sentence, the formulas, and where the factor is 0."""
    lines = [summary, ""]
    for text in formulas:
        lines += wrapped(text, INDENT * 2, INDENT * 3)
    if more:
        lines += ["", *block(more)]
    return "\n".join([*lines, INDENT])


def projection_doc(attention: Attention, name: str, shared: bool) -> str:
    """The docstring of a projection's gauge."""
    what = "a projection" if shared else f"the {name} projection"
    return function_doc(
        f"Return the factor that gives {what} of x the self-kernel I, a number a token.",
        gauge_formulas(attention, name),
        "Without a bias it is 0 where x = 0.",
    )


def score_doc(attention: Attention) -> str:
    """The docstring of the score's gauge."""
    return function_doc(
        "Return the factor of the corrected q and k's score, shape (..., t, u).",
        gauge_formulas(attention, "score"),
        "It is 0 where that is infinite, and held fixed during a step.",
    )


def mix_gauge_doc(attention: Attention) -> str:
    """The docstring of the mix's gauge."""
    return function_doc(
        "Return the factor that gives a mix of values the self-kernel I, shape (..., t, 1).",
        gauge_formulas(attention, "mix"),
        "This is 1/||r_bar[t]||, r_bar[t] being the mix of what multiplies the parameters in "
        "each value; 0 where no weight reaches any parameter.",
    )


def class_tail(attention: Attention) -> list[str]:
    """What both classes say at the end."""
    lines = ["", *block(TWIN)]
    if attention.spec.source:
        lines += ["", *block(f"Source: {attention.spec.source}.")]
    lines += ["", f"{INDENT}Args:"]
    for name, text in ARGUMENTS:
        lines += block(f"{name}: {text}", 2)
    lines += ["", f"{INDENT}Raises:"]
    lines += block("ValueError: If embed_dim is not divisible by num_heads.", 2)
    lines += ["", f"{INDENT}Shape:"]
    for text in (
        "query: (L, N, embed_dim), or (L, embed_dim), or (N, L, embed_dim) with batch_first",
        "key, value: (S, N, kdim), (S, N, vdim), likewise",
        "output: as query",
        "weights: (N, L, S), per head (N, num_heads, L, S), None unless need_weights",
    ):
        lines += block(text, 2)
    return lines


def claims(attention: Attention, stages: tuple[str, ...], score: str) -> list[str]:
    """The gauge and the exactness class of each stage."""
    lines = []
    for name in stages:
        gauge = "; ".join(gauge_formulas(attention, name))
        lines += block(f"{name}: lambda = {gauge}; {exactness(attention, name)}.", 2)
    gauge = "; ".join(gauge_formulas(attention, "score"))
    lines += block(f"score, {score}: lambda = {gauge}; {exactness(attention, 'score')}.", 2)
    kinds = {attention.stages[n, True].correction.exactness for n in (*stages, "score")}
    for kind in sorted(kinds):
        lines += block(sentence(EXACTNESS[kind]))
    return lines


def layer_lines(attention: Attention) -> list[str]:
    """The spec's own lines."""
    lines = [""]
    for text in attention.spec.forward.strip().splitlines():
        lines += wrapped(text.strip(), INDENT * 2, INDENT * 3)
    return [*lines, ""]


def affine_doc(attention: Attention) -> str:
    """The docstring of the class that corrects the four projections."""
    lines = ["nn.MultiheadAttention whose four projections take the true gradient step."]
    lines += layer_lines(attention)
    lines += block(
        "Each projection is multiplied by its lambda, as the score is with score_gauge=True. The "
        "claims are about one token's own gradient and the stage's own parameters, by plain SGD:"
    )
    lines += claims(attention, ("query", "key", "value", "output"), "with score_gauge=True")
    lines += [
        "",
        *block(
            f"Not corrected: {UNCORRECTED}; the score, unless score_gauge; the mix of the values."
        ),
    ]
    return "\n".join([*lines, *class_tail(attention)])


def mix_doc(attention: Attention, sibling: str) -> str:
    """The docstring of the class that corrects the mix of the values."""
    lines = ["nn.MultiheadAttention whose q, k, output and mix of values take the true step."]
    lines += layer_lines(attention)
    lines += block(
        f"The value projection stays plain, unlike in {sibling}, and the mix m is multiplied by "
        "its lambda, which uses the weights w as they are after masks, dropout and extra tokens. "
        "extra_weight is the weight of the token of add_bias_kv, whose value is a parameter; the "
        "token of add_zero_attn holds none and adds nothing. w does not depend on the values, and "
        "gradients run through lambda to w and x. Where lambda would be infinite (no weight on "
        "any parameter) it is 0. The claims are about one token's own gradient and the stage's own "
        "parameters, by plain SGD:"
    )
    lines += claims(attention, ("query", "key", "mix", "output"), "with score_gauge=True")
    lines += [
        "",
        *block(
            f"Not corrected: {UNCORRECTED}; the score, unless score_gauge; each value by itself. "
            "Mixing x per head costs O(N num_heads L S vdim) time and as many activations as "
            "num_heads copies of value."
        ),
    ]
    return "\n".join([*lines, *class_tail(attention)])
