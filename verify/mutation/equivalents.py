"""Mutants that nothing refuses because they are not wrong, each with the reason.

An entry matches a mutant's ``file:line:column:kind: before → after``. One that no survivor of a
whole campaign needs is stale, and the campaign fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from verify.mutation.verdict import Verdict


@dataclass(frozen=True)
class Equivalent:
    """An argument.

    Attributes:
        where: Regular expression of ``file function``, as ``layers/.* _energy``.
        kind: Regular expression of the kind.
        change: Regular expression of ``before  →  after``, from the start.
        reason: Why such a file is right.
    """

    where: str
    kind: str
    change: str
    reason: str

    def covers(self, verdict: Verdict) -> bool:
        """Whether the argument is about a mutant."""
        kind = verdict.identity.split(":", 3)[3].split(" #")[0]
        return (
            re.fullmatch(self.where, f"{verdict.file} {verdict.function}") is not None
            and re.fullmatch(self.kind, kind) is not None
            and re.match(self.change, f"{verdict.before}  →  {verdict.after}") is not None
        )

    def concerns(self, places: Iterable[str]) -> bool:
        """Whether the argument is about any of some places, each ``file function``."""
        return any(re.fullmatch(self.where, place) for place in places)


EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent(
        "layers/.* (_energy|_times|_times_plus|_single)",
        "items swapped",
        r"\(torch\.b?float\d\d, torch\.b?float\d\d\)",
        "the order of what a number's type is looked up in means nothing",
    ),
    Equivalent(
        "layers/.*",
        "arguments swapped",
        r"(torch\.addcmul\(.+, |h\.addcmul_\()([^,]+), ([^,]+)(, .+)?\)  →  \1\3, \2(, .+)?\)$",
        "two factors of a product in the other order",
    ),
    Equivalent(
        "layers/.* _energy",
        "detached",
        "(norm|energy|norm: Tensor) = ",
        "it runs only while no gradient is recorded",
    ),
    Equivalent(
        "layers/gated_linear .*forward",
        "detached",
        "(sigmoid|energy|scale) = ",
        "a part of a gauge that is detached as a whole",
    ),
    Equivalent(
        "layers/low_rank (_whiten|.*forward)",
        "detached",
        "(identity|factor|kernel) = ",
        "a part of a gauge that is detached as a whole",
    ),
    Equivalent(
        "layers/low_rank _whiten",
        "1 to 2",
        "1  →  2$",
        "a kernel is as high as it is wide",
    ),
    Equivalent(
        "layers/.*forward",
        "items swapped",
        r"\((-\d, )+-\d\)  →  ",
        "the order of the axes of a sum",
    ),
    Equivalent(
        "layers/batch_norm(_eval)?_linear .*forward",
        "USub dropped",
        "-1  →  1$",
        "an input of two axes and no more, as its docstring says: the last one is number 1",
    ),
    Equivalent(
        r"derive/certify Certifier\.(expressed|must_be)",
        "arguments swapped",
        r"self\.equal\((\w+), (\w+)\)  →  self\.equal\(\2, \1\)$",
        "two expressions agree or not, whichever is named first: their difference changes its sign",
    ),
    Equivalent(
        r"derive/certify Certifier\.smooth_at_zero",
        "items swapped",
        r"\(sympy\.zoo, sympy\.nan, sympy\.oo\)  →  ",
        "an expression is asked whether it has any of them, in whatever order",
    ),
    Equivalent(
        "layers/.* _flatten",
        "left operand alone",
        r"first \+ x\.dim\(\)  →  first$",
        "an axis counted from the end bounds the same slice whichever way it is counted",
    ),
    Equivalent(
        "layers/.* _unflatten",
        "right operand alone",
        r"x\.dim\(\) \+ dim  →  dim$",
        "the axis after one counted from the end; the last axis of all is never taken apart here",
    ),
    Equivalent(
        "layers/.* _box_adjoint",
        "Gt to GtE|1 to 0",
        r"step > 1  →  step >= 1$|1  →  0$",
        "with a step of 1 no zeros are put between, and a new axis of size 1 is flattened again",
    ),
    Equivalent(
        "layers/.* _resolve_padding",
        "items swapped",
        r"\('zeros', 'reflect', 'replicate', 'circular'\)  →  ",
        "the order of what a name is looked up in means nothing",
    ),
    Equivalent(
        "layers/.* _as_int|layers/.*__init__",
        "0 to -1",
        "0  →  -1$",
        "the first of the one number in a tuple is its last",
    ),
    Equivalent(
        "layers/conv_transpose.*__init__",
        "items swapped",
        r"\(self\.output_padding\[\d\] >= max",
        "whether any of some conditions holds does not depend on their order",
    ),
    Equivalent(
        "layers/.*(Conv|Locally).*forward",
        "USub dropped|1 to 0",
        "-1  →  1$|1  →  0$",
        "a bias has one axis: the last is the first, and a new one at its end is number 1",
    ),
    Equivalent(
        "layers/conv.*backward",
        "lower bound dropped|USub dropped|1 to 0|1 to 2|2 to 3|3 to 4",
        r"-(\d):  →  :$|-(\d)  →  \2$|1  →  0$|1  →  2$|2  →  3$|3  →  4$",
        "the sizes of the last axes are read by their places from the end, so that more of them in "
        "front change nothing; and the third axis from the end of five is the third from the front",
    ),
    Equivalent(
        r"layers/conv(_transpose)?1d .*Function\.forward",
        "USub dropped",
        r"-2  →  2$",
        "the derived pass takes one leading axis alone: samples, groups, channels of a group and "
        "positions are four axes, of which the third is the last but one; a scale is put before it",
    ),
    Equivalent(
        "layers/conv.* _NormLike.*backward",
        "(left|right) operand alone|FloorDiv to Mult",
        r"ctx\.groups \* \(ctx\.out_channels // ctx\.groups\)  →|"
        r"ctx\.out_channels // ctx\.groups  →",
        "the shape of a bias whose gradient is not asked for",
    ),
    Equivalent(
        "layers/conv.* _NormLike.*backward",
        "False to True",
        "False  →  True$",
        "a gradient of no bias, computed in vain",
    ),
    Equivalent(
        "layers/conv.* _NormLike.*backward",
        "items swapped",
        r"\(ctx\.groups, ctx\.out_channels // ctx\.groups\)  →|\(0, (-\d, )*-\d\)  →",
        "channels are taken apart and put together again; the order of the axes of a sum",
    ),
    Equivalent(
        r"codegen/backward_windows over_sites",
        "items swapped",
        r"\(0, \*",
        "the order of the axes of a sum",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.inverse_powers",
        "items swapped|0 to 1|Lt to LtE",
        r"\(bool\(reads\(f\)\), str\(f\)\)  →|factor\.exp < 0  →  factor\.exp <= 0$",
        "the order of the factors of a gauge; no power has the exponent 0",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.plain_power",
        "USub dropped|1 to [02]",
        "-1  →  1$|1  →  [02]$",
        "the reciprocal of a number is its power of -1.0 too",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.input_map",
        "0 to -1|1 to 0",
        r"0  →  -1$|1  →  0$",
        "of one element the first is the last; of the one part that is scaled the degree alone is "
        "asked from there on",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.input_map",
        "operand dropped",
        r"len\(scaled\) == len\(fixed\) == len\(added\) == 1 and \(not scale\.scalar\)  →",
        "no factor of the input is a number: where κ(μx) is constant there is none",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.input_map",
        "items swapped",
        r"\[result, (value|self\.times\(value, scale, degree\))\]  →",
        "the order of a sum of two",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.input_map",
        "filter dropped",
        r"\(_ for d, part in self\.correction\.terms if part != 0\)  →",
        "a part that is 0 is a number that is added",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.matrix_gauge",
        "1 to [02]|Gt to GtE|Gt to LtE",
        r"1  →  [02]$|len\(rows\) > 1  →",
        "the axes of the units are taken apart once more where the output is put into order",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.matrix_gauge",
        "filter dropped",
        r"\(_ for a in low\.axes_of\(self\.program\.site\) if a in low\.split\(z\)\.axes\)  →",
        "every letter of the left side stands on the right, so that z has an axis of each",
    ),
    Equivalent(
        r"derive/update Differentiator\.of_softmax",
        "operand dropped",
        r"own and isinstance\(at, Letter\)  →  own$",
        "a line that is a softmax stands at a letter of its left side",
    ),
    Equivalent(
        "derive/squares _under_one_sum",
        "operand dropped",
        r"not sums and set\(counts\)",
        "a term with the sizes and a sum over other letters is the sum over these of a part of it",
    ),
    Equivalent(
        "codegen/windows Slid",
        "False to True",
        "False  →  True$",
        "asked of sums of ones alone, which always say whether shifted maps are added",
    ),
    Equivalent(
        "derive/structure ",
        r"60 to \d+|12 to \d+",
        "60|12",
        "how long an expression may be to be tried in a simpler form, of which any is right",
    ),
    Equivalent(
        r"derive/update Differentiator\.of_read",
        "arguments swapped",
        r"zip\(e\.indices, self\.element, strict=True\)  →  zip\(self\.element, e\.indices, ",
        "δ(m - i) is δ(i - m): a bracket gives its difference the one sign of the two",
    ),
    Equivalent(
        "derive/roots positive_roots",
        r"3 to \d|7 to \d|5 to \d|arguments swapped",
        r"[357]  →  \d$|sympy\.Rational\(3 if a\.is_positive else -7, 5\)  →  sympy\.Rational\(5, ",
        "a root that is positive for some coefficients of known signs is so for all of them",
    ),
    Equivalent(
        "derive/squares _under_one_sum",
        "0 to -1",
        "0  →  -1$",
        "the one sum that a term has, counted from the other end",
    ),
    Equivalent(
        "derive/squares _common_squares",
        "operand dropped",
        r"isinstance\(f, Pow\) and \(?not f\.base\.is_Add\)?  →  isinstance\(f, Pow\)$",
        "the square of a sum may be drawn out as well; the result is equal to what was given",
    ),
    Equivalent(
        "derive/squares _common_squares",
        "3 to 2",
        "3  →  2$",
        "multiplied out, as it comes, the square of a sum has three terms: two are none",
    ),
    Equivalent(
        r"derive/input_map InputMapSolver\.input_map",
        "arguments swapped",
        r"coefficients\.pop\(0, Integer\(0\)\)  →  ",
        "Python's 0 and SymPy's are equal, as a key of a dictionary and as a number in a sum",
    ),
    Equivalent(
        "codegen/calls ",
        "items swapped|(left|right) operand alone",
        r"\(Value, bool\)  →|tuple\[Value, bool\] \| None  →",
        "the name of a type, which annotations alone use",
    ),
    Equivalent(
        r"codegen/windows (size_fits|Sizes\.__(init|missing)__)",
        "0 to -?1|40 to (39|41)|4 to 5|8 to [79]",
        r"0  →  -?1$|40  →  (39|41)$|4  →  5$|8  →  [79]$",
        "any source of random sizes, and about as many of them, decide alike",
    ),
    Equivalent(
        "codegen/axes ",
        "condition negated",
        "if TYPE_CHECKING  →  if not TYPE_CHECKING$",
        "names for annotations, which nothing evaluates: imported or not, no value is another",
    ),
    Equivalent(
        r"codegen/axes Axes\.permuted",
        "arguments swapped",
        r"zip\(value\.axes, axes, strict=True\)  →  zip\(axes, value\.axes, strict=True\)$",
        "two lists differ at the same places, whichever of them is named first",
    ),
    Equivalent(
        r"codegen/elementwise Elementwise\.term_order",
        "items swapped",
        r"\(bool\(reads\(term\)\), self\.is_bias\(term\), .*  →  \(self\.is_bias\(term\), bool\(",
        "a bias is read, so that numbers, other terms and biases come in this order by either key",
    ),
    Equivalent(
        "derive/structure _anisotropic",
        "LtE to Lt",
        r".* <= MAX_(SIMPLIFIED|EXPANDED)  →",
        "how long an expression may be to be tried in a simpler form, of which any is right",
    ),
    Equivalent(
        "derive/structure (simplest|named)",
        "(items|arguments) swapped",
        r"\[expression, cancel\(expression\)\]  →|shortest\(expression, apart\)  →",
        "the shortest is the same in any order, and of two with one text either will do",
    ),
    Equivalent(
        "derive/structure sum_of_gradients",
        "intersection to union",
        r"set\.intersection\(",
        "what comes out is shown to be κ or not taken, and without a δ that not all terms have it "
        "is none: Σ_m (δ_im a + b)² is a² + 2ab + Σ_m b², and not (a + b)²",
    ),
    Equivalent(
        "codegen/forms ",
        "items swapped",
        r"\(linear, bilinear, convolution, transposed_convolution, transposed_box, box_sum\)  →  ",
        "each form asks for other factors or other axes of them: no sum of any spec fits two, and "
        "so none is computed by another form where another is asked first",
    ),
    Equivalent(
        r"codegen/forward ForwardWriter\.times$",
        "items swapped",
        r"\[scale, z\]  →",
        "a product is written with its numbers first, wherever they stand",
    ),
    Equivalent(
        "derive/normal _multiplied_out",
        "operand dropped",
        r"base\.is_Add and exponent\.is_Integer  →  exponent\.is_Integer$",
        "SymPy is asked to expand more often; where nothing multiplies out, nothing changes",
    ),
    Equivalent(
        "derive/normal _join_deltas",
        "arguments swapped",
        r"stride\.has\(Add, Letter\)  →  ",
        "an expression is asked whether it has any of them, in whatever order",
    ),
    Equivalent(
        "derive/normal _join_deltas",
        "items swapped",
        r"\(one - other, one \+ other\)  →  ",
        "δ(e) δ(f) is δ(e) δ(a-b) where e - f is s (a-b), and where e + f is; where both are, with "
        "other letters each, either may be taken first",
    ),
    Equivalent(
        "codegen/backward_windows ",
        "items swapped",
        r"\(convolution_gradient, box_gradient, over_sites\)  →  ",
        "a sum has one of these forms at most: a convolution's gradient reads its weight or image, "
        "a box sum's reads neither and has a bracket, and a sum of one tensor alone has none",
    ),
    Equivalent(
        "codegen/backward (pays|apart)",
        "items swapped",
        r"\(\*found\.(shared|forward\.statements\[.*:\]), \*found\.\w+, ",
        "lines are searched for a word, and for what they name, in whatever order they come",
    ),
    Equivalent(
        r"codegen/backward BackwardWriter\.lowering",
        "items swapped",
        r"\(\*WINDOW_RECOGNISERS, \*BACKWARD_RECOGNISERS, \*RECOGNISERS\)  →  ",
        "no sum is of two of these forms. The second kind are sums over the leading axes alone, of "
        "rows and no parameter, and products with a parameter of one axis. Linear maps and windows "
        "have a parameter of more; the maps of a window have channels and positions, so no rows",
    ),
    Equivalent(
        "codegen/backward_forms ",
        "items swapped",
        r"\(over_rows, with_vector\)  →  ",
        "no sum is of both forms: the first has leading axes alone, which no parameter has, and "
        "the second runs over an axis of a parameter",
    ),
    Equivalent(
        "layers/multihead_attention _score_gauge",
        "detached",
        "(energy|energy2|scale) = ",
        "q and k are detached before, so that nothing carries a gradient",
    ),
    Equivalent(
        "layers/multihead_attention _score_gauge",
        "USub dropped",
        "-2  →  2$",
        "what has the axes batch, head and token gets its new one last but one, which is the third",
    ),
    Equivalent(
        r"layers/multihead_attention _AffineLikeProjection\.(extra_repr|reset_parameters)",
        "0 to -?1|1 to 0",
        r"0  →  -?1$|1  →  0$",
        "the projection is square: both sizes of its weight are one",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\.reset_parameters",
        "items swapped",
        r"\(self\.in_proj_weight, self\.q_proj_weight, |\(self\.in_proj_bias, ",
        "a layer has the one weight or the other three, and zeros are drawn in no order",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\.forward",
        "operand dropped",
        "weights is None or not need_weights  →  not need_weights$",
        "weights that are needed are there: the question is for checkers of types",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._check_inputs",
        "items swapped",
        r"\(2, 3\)  →",
        "in which order a number is looked for means nothing",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._in_proj",
        "operand dropped|3 to 4|Lt to LtE",
        "(bias is not None and )?count < 3  →  (bias is not None|count <= 3)$|3  →  4$",
        "from the first to the last it is all of it",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._in_proj",
        "filter dropped",
        r"\(_ for w in separate if w is not None\)  →",
        "where weights are separate all three are there: the question is for checkers of types",
    ),
    Equivalent(
        "layers/multihead_attention .*",
        "arguments swapped",
        r"(.+)\.transpose\((-?\d), (-?\d)\)  →  \1\.transpose\(\3, \2\)$",
        "two axes change places, whichever is named first",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._project_corrected",
        "0 to -1|0 to 1|1 to 2",
        r"0  →  -?1$|1  →  2$",
        "inputs that are known to be one tensor, by another of their numbers",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._project_corrected",
        "3 to 4",
        "3  →  4$",
        "keys that are the values too take two products and two norms in place of one",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._merge_masks",
        "operand dropped|0 to -1",
        r"mask is None or extra == 0  →  mask is None$|0  →  -1$",
        "no token more is a mask that is padded by nothing",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._append_extra_tokens",
        "operand dropped",
        r"self\.bias_k is not None and self\.bias_v is not None  →  ",
        "a layer has both or none: the question is for checkers of types",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._append_extra_tokens",
        "USub dropped",
        "-1  →  1$",
        "the axis that stays as it is has one element",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._attend",
        "USub dropped",
        "-2  →  2$",
        "of four axes the last but one is the third",
    ),
    Equivalent(
        r"layers/multihead_attention ValueMixMultiheadAttention\._coefficients",
        "items swapped",
        r"\(0, 1\)  →  \(1, 0\)$",
        "coefficients in another order: of their mixture the length alone is taken",
    ),
    Equivalent(
        r"layers/multihead_attention _MultiheadAttention\._project_corrected",
        "operand dropped",
        r"packed and all\(\(x is inputs\[0\] for x in inputs\)\)  →  all\(",
        "what is one tensor has one size, and weights of one size are packed",
    ),
    Equivalent(
        r"layers/depthwise_conv2d _\w+Function\.backward",
        "USub dropped",
        "-2  →  2$",
        "the derived pass has a leading axis, so that of four axes the last two begin at the third",
    ),
)
