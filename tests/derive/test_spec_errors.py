"""Every way to write a spec wrongly is a SpecError with file, line, symbol and remedy."""

import pytest

from derive import LayerSpec, SpecError, derive, load_spec, read_spec

LINEAR = """\
name    = "Linear"
forward = "z[n, i] = W[i, j]*x[n, j] + b[i]"
site    = "n"
unit    = "i"

[parameters]
W = { torch = "weight" }
b = { torch = "bias", optional = true }

[sizes]
j = "in_features"
i = "out_features"
"""

CONVOLUTION = """\
name    = "Conv"
forward = "z[n, o, p] = W[o, c, k]*x[n, c, stride*p + dilation*k - padding] + b[o]"
site    = "n p"
unit    = "o"

[parameters]
W = { torch = "weight" }
b = { torch = "bias" }

[sizes]
c = "in_channels"
o = "out_channels"
k = "kernel_size"
p = "(l + 2*padding - dilation*(k - 1) - 1)//stride + 1"

[hyperparameters]
stride = 1
padding = 0
dilation = 1

[inputs]
x = { axes = "n c l", padded_by = "padding" }
"""

FORWARD = '"z[n, i] = W[i, j]*x[n, j] + b[i]"'


def linear(old, new):
    assert old in LINEAR
    return LINEAR.replace(old, new, 1)


def formula(text):
    return linear(FORWARD, f'"{text}"')


def lines(*texts):
    return linear(FORWARD, '"""\n' + "\n".join(texts) + '\n"""')


def conv(old, new):
    assert old in CONVOLUTION
    return CONVOLUTION.replace(old, new, 1)


# name → (text, line or None, symbol, part of the problem)
WRONG = {
    # the formula
    "free index on the left only": (
        formula("z[n, i, q] = W[i, j]*x[n, j] + b[i]"),
        2,
        "q",
        "nowhere on the right",
    ),
    "index with two sizes": (
        formula("z[n, i] = W[i, j]*x[n, i] + b[j]*x[n, j]"),
        2,
        None,
        "two sizes",
    ),
    "unknown function": (
        formula("z[n, i] = sin(W[i, j]*x[n, j]) + b[i]"),
        2,
        "sin",
        "unknown function",
    ),
    "unknown reduction": (
        formula("z[n, i] = prod[j](W[i, j]*x[n, j]) + b[i]"),
        2,
        "prod",
        "unknown reduction",
    ),
    "parameter never used": (formula("z[n, i] = W[i, j]*x[n, j]"), 8, "b", "never used"),
    "no parameter in the output": (
        lines("h[n, i] = W[i, j]*x[n, j] + b[i]", "z[n, i] = y[n, i]"),
        None,
        "h",
        "never used",
    ),
    "non-affine index": (formula("z[n, i] = W[i, j]*x[n, j*j] + b[i]"), 2, None, "integer-affine"),
    "index times index": (formula("z[n, i] = W[i, j]*x[n, i*j] + b[i]"), 2, None, "integer-affine"),
    "fraction in an index": (
        formula("z[n, i] = W[i, j]*x[n, 0.5*j] + b[i]"),
        2,
        "1/2",
        "integer-affine",
    ),
    "index used as a number": (
        formula("z[n, i] = W[i, j]*x[n, j]*j + b[i]"),
        2,
        "j",
        "used as a number",
    ),
    "other number of axes": (formula("z[n, i] = W[i, j]*x[n, j] + x[n] + b[i]"), 2, "x", "axes"),
    "non-ASCII formula": (formula("z[n, i] = W[i, j]*ξ[n, j] + b[i]"), 2, "ξ", "ASCII"),
    "keyword as a letter": (
        formula("z[n, if] = W[if, j]*x[n, j] + b[if]"),
        2,
        "if",
        "keyword",
    ),
    "reserved name": (formula("z[n, i] = W[i, j]*self[n, j] + b[i]"), 2, "self", "reserved"),
    "reserved token": (formula("z[n, i] = W[i, self[n]] + b[i]"), 2, "self", "reserved"),
    "no equals sign": (formula("W[i, j]*x[n, j] + b[i]"), 2, None, "exactly one `=`"),
    "two equals signs": (formula("z[n, i] = y[n, i] = b[i]"), 2, None, "exactly one `=`"),
    "left side no tensor": (formula("2 = W[i, j]*x[n, j] + b[i]"), 2, "2", "left side"),
    "left side an index expression": (
        formula("z[n, i + 1] = W[i, j]*x[n, j] + b[i]"),
        2,
        None,
        "left side",
    ),
    "index twice on the left": (formula("z[i, i] = W[i, j]*x[i, j] + b[i]"), 2, "i", "twice"),
    "syntax": (formula("z[n, i] = W[i, j]*x[n, j] + + + b[i"), 2, None, "not a formula"),
    "comparison": (
        formula("z[n, i] = W[i, j]*x[n, j] > b[i]"),
        2,
        None,
        "not part of the notation",
    ),
    "lambda": (formula("z[n, i] = (lambda: 1)() + W[i, j]*x[n, j] + b[i]"), 2, None, "not part of"),
    "attribute": (
        formula("z[n, i] = W.T[i, j]*x[n, j] + b[i]"),
        2,
        None,
        "only a name may be indexed",
    ),
    "call of an attribute": (
        formula("z[n, i] = os.system(b[i])*W[i, j]*x[n, j]"),
        2,
        None,
        "not part of",
    ),
    "keyword argument": (
        formula("z[n, i] = exp(x=b[i])*W[i, j]*x[n, j]"),
        2,
        None,
        "exactly one `=`",
    ),
    "string": (
        formula("z[n, i] = W[i, j]*x[n, j] + b['i']"),
        2,
        None,
        "integer-affine|only numbers",
    ),
    "complex number": (formula("z[n, i] = W[i, j]*x[n, j] + 1j*b[i]"), 2, "1j", "only numbers"),
    "power of an expression": (
        formula("z[n, i] = W[i, j]**x[n, j] + b[i]"),
        2,
        None,
        "power must be",
    ),
    "real power": (formula("z[n, i] = W[i, j]*x[n, j]**0.5 + b[i]"), 2, None, "power must be"),
    "huge power": (formula("z[n, i] = W[i, j]*x[n, j]**99 + b[i]"), 2, None, "beyond"),
    "division by zero": (
        formula("z[n, i] = W[i, j]*x[n, j]/0 + b[i]"),
        2,
        None,
        "division by zero",
    ),
    "hidden division by zero": (
        formula("z[n, i] = W[i, j]*x[n, j]/(1 - 1) + b[i]"),
        2,
        None,
        "division by zero",
    ),
    "logarithm of a negative number": (
        formula("z[n, i] = W[i, j]*x[n, j]*log(-1) + b[i]"),
        2,
        "log",
        "not real",
    ),
    "floor division": (formula("z[n, i] = W[i, j]*x[n, j]//2 + b[i]"), 2, "//", "sizes only"),
    "modulo": (formula("z[n, i] = W[i, j]*x[n, j] % 2 + b[i]"), 2, None, "operator"),
    "inversion": (formula("z[n, i] = ~W[i, j]*x[n, j] + b[i]"), 2, None, "operator"),
    "sum without index": (
        formula("z[n, i] = sum(W[i, j]*x[n, j]) + b[i]"),
        2,
        None,
        "needs its index",
    ),
    "sum over nothing": (
        formula("z[n, i] = W[i, j]*x[n, j] + sum[q](b[i])"),
        2,
        "q",
        "without `q`",
    ),
    "softmax over two": (
        formula("z[n, i] = W[i, j]*x[n, j] + softmax[i, j](b[i]*x[i, j])"),
        2,
        None,
        "one letter",
    ),
    "arguments of max": (formula("z[n, i] = max(W[i, j]*x[n, j]) + b[i]"), 2, None, "2 argument"),
    "size of nothing": (
        formula("z[n, i] = W[i, j]*x[n, j]*size(q) + b[i]"),
        2,
        "q",
        "unknown index",
    ),
    "size of an expression": (
        formula("z[n, i] = W[i, j]*x[n, j]*size(j + 1) + b[i]"),
        2,
        None,
        "one letter",
    ),
    "tensor and index": (
        formula("z[n, i] = W[i, j]*x[n, j] + b[i]*j[n]"),
        11,
        "j",
        "both a tensor and an index",
    ),
    "very long formula": (
        formula("z[n, i] = W[i, j]*x[n, j] + b[i]" + " + b[i]" * 4000),
        2,
        None,
        "longer than",
    ),
    "many parts": (formula("z[n, i] = W[i, j]*x[n, j] + b[i]" + " + b[i]" * 800), 2, None, "parts"),
    "deep nesting": (
        formula("z[n, i] = W[i, j]*x[n, j] + " + "(" * 300 + "b[i]" + ")" * 300),
        2,
        None,
        "nested|not a formula",
    ),
    "long number": (
        formula("z[n, i] = W[i, j]*x[n, j] + b[i]*12345678901234567890123"),
        2,
        None,
        "number",
    ),
    # several lines
    "cyclic intermediates": (
        lines(
            "h[n, i] = W[i, j]*g[n, j]",
            "g[n, i] = h[n, i] + b[i]",
            "z[n, i] = h[n, i] + g[n, i]*x[n, i]",
        ),
        3,
        "g",
        "before it is defined",
    ),
    "defined by itself": (
        lines("z[n, i] = W[i, j]*x[n, j] + z[n, i]*b[i]"),
        3,
        "z",
        "before it is defined",
    ),
    "defined twice": (
        lines("h[n, i] = W[i, j]*x[n, j]", "h[n, i] = b[i]", "z[n, i] = h[n, i]"),
        3,
        "h",
        "defined twice",
    ),
    "defined and declared": (
        lines("W[i, j] = b[i]", "z[n, i] = W[i, j]*x[n, j]"),
        3,
        "W",
        "declared in",
    ),
    "unused intermediate": (
        lines("h[n, i] = W[i, j]*x[n, j]", "z[n, i] = W[i, j]*x[n, j] + b[i]"),
        None,
        "h",
        "never used",
    ),
    # site and unit
    "site names no index": (linear('"n"', '"n q"'), None, "q", "no index of the output"),
    "index in neither": (linear('"n"', '""'), None, "n", "exactly one of site and unit"),
    "index in both": (linear('"n"', '"n i"'), None, "i", "exactly one of site and unit"),
    # sizes
    "size unknown": (linear('i = "out_features"\n', ""), None, "i", "unknown"),
    "size of an index that is not there": (
        linear("[sizes]", '[sizes]\nq = "width"'),
        11,
        "q",
        "occurs nowhere",
    ),
    "size by itself": (linear('"in_features"', '"j + 1"'), None, "j", "defined by itself"),
    "size with an unknown name": (
        linear('"in_features"', '"2*width"'),
        None,
        "width",
        "unknown name",
    ),
    "size with a function": (
        linear('"in_features"', '"sqrt(i)"'),
        None,
        None,
        "may stand in a size",
    ),
    "size with a division": (linear('"in_features"', '"i/2"'), None, None, "whole number"),
    "size with a fraction": (linear('"in_features"', '"0.5*i"'), None, None, "whole number"),
    "size that is no text": (linear('"in_features"', "3.5"), None, "j", "must be a string"),
    "size as integer and tuple": (
        linear('"out_features"', '"in_features[0]"'),
        None,
        "in_features",
        "tuple",
    ),
    "size hides a parameter": (linear('"in_features"', '"weight"'), None, "weight", "hides"),
    "size is a keyword": (linear('"in_features"', '"match"'), None, "match", "keyword"),
    "composed size that is known": (
        linear("[sizes]", '[sizes]\n"(i, j)" = "total"'),
        None,
        "i",
        "exactly one",
    ),
    "size names a hyperparameter": (
        conv("[sizes]", '[sizes]\nstride = "step"'),
        None,
        "stride",
        "hyperparameter",
    ),
    "flag in a size": (
        conv("(k - 1)", "flag").replace("stride = 1", "stride = 1\nflag = true"),
        None,
        "flag",
        "flag",
    ),
    # parameters
    "no parameters": (LINEAR.split("[parameters]", maxsplit=1)[0], None, "parameters", "missing"),
    "empty parameters": (
        linear('W = { torch = "weight" }\nb = { torch = "bias", optional = true }\n', ""),
        6,
        "parameters",
        "no parameter",
    ),
    "parameter no table": (linear('{ torch = "weight" }', '"weight"'), 7, "W", "must be a table"),
    "parameter with an unknown key": (
        linear('torch = "weight"', 'trch = "weight"'),
        7,
        "trch",
        "unknown key",
    ),
    "parameter shadows the module": (
        linear('"weight"', '"forward"'),
        None,
        "forward",
        "torch.nn.Module",
    ),
    "parameter with a bad name": (linear('"weight"', '"wei ght"'), None, "wei ght", "identifier"),
    "two parameters of one name": (linear('"bias"', '"weight"'), None, "b", "both stored"),
    "optional no boolean": (
        linear("optional = true", 'optional = "yes"'),
        None,
        "b",
        "true or false",
    ),
    "unknown init": (linear('torch = "weight"', 'init = "magic"'), None, "magic", "unknown init"),
    "init of a wrong type": (linear('torch = "weight"', "init = [1]"), None, None, "init"),
    "fan_in of a wrong type": (linear('torch = "weight"', "fan_in = 3"), None, None, "fan_in"),
    "axes of a wrong type": (linear('torch = "weight"', "axes = 3"), None, None, "axes"),
    "torch of a wrong type": (linear('"weight"', "3"), None, None, "identifier"),
    # hyperparameters
    "hyperparameter of a wrong type": (
        conv("stride = 1", 'stride = "one"'),
        17,
        "stride",
        "integer",
    ),
    "hyperparameter not finite": (conv("stride = 1", "stride = 1\neps = nan"), 18, "eps", "finite"),
    "hyperparameter without elements": (conv("stride = 1", "stride = []"), 17, "stride", "integer"),
    "hyperparameter is a keyword": (
        conv("stride = 1", "stride = 1\nclass = 1"),
        18,
        "class",
        "keyword",
    ),
    "real number in an index": (conv("stride = 1", "stride = 1.5"), None, "stride", "integer"),
    "flag in an index": (conv("stride = 1", "stride = true"), None, "stride", "integer|flag"),
    "tuple read whole": (conv("stride = 1", "stride = [1, 1]"), None, "stride", "wrong way"),
    "number read by element": (conv("stride*p", "stride[0]*p"), 2, "stride", "not a tensor"),
    "element beyond the tuple": (
        conv("stride*p", "stride[2]*p").replace("stride = 1", "stride = [1, 1]"),
        2,
        "stride",
        "2 elements",
    ),
    "index and hyperparameter": (
        conv("stride = 1", "stride = 1\nn = 1"),
        None,
        "n",
        "hyperparameter",
    ),
    "parameter and hyperparameter": (
        conv("stride = 1", "stride = 1\nW = 1"),
        None,
        "W",
        "hyperparameter",
    ),
    "hyperparameter hides a parameter": (
        conv("stride = 1", "stride = 1\nweight = 1"),
        None,
        "weight",
        "hides",
    ),
    # inputs
    "input without axes": (
        conv('x = { axes = "n c l", padded_by = "padding" }\n', ""),
        2,
        "x",
        "axes are unknown",
    ),
    "input of a wrong type": (
        conv('{ axes = "n c l", padded_by = "padding" }', "3"),
        22,
        "x",
        "name its axes",
    ),
    "input with an unknown key": (conv("padded_by", "padding_by"), 22, "padding_by", "unknown key"),
    "padding by nothing": (
        conv('padded_by = "padding"', 'padded_by = "pad"'),
        22,
        "pad",
        "no hyperparameter",
    ),
    "padding of a wrong type": (
        conv('padded_by = "padding"', "padded_by = [1]"),
        22,
        None,
        "hyperparameter",
    ),
    "input never used": (conv("[inputs]", '[inputs]\ny = "n c"'), 22, "y", "never used"),
    "input and parameter": (
        conv("[inputs]", '[inputs]\nW = "n c"'),
        None,
        "W",
        "parameter and an input",
    ),
    "input and hyperparameter": (
        conv("[inputs]", '[inputs]\nstride = "n c"'),
        None,
        "stride",
        "hyperparameter",
    ),
    # stages and classes
    "stage of a wrong type": (
        linear("[sizes]", '[stages]\nall = "z"\n\n[sizes]'),
        11,
        "all",
        "must be a table",
    ),
    "stage without site": (
        linear("[sizes]", '[stages]\nall = { lines = "z" }\n\n[sizes]'),
        11,
        "all",
        "site",
    ),
    "stage without lines": (
        linear("[sizes]", '[stages]\nall = { lines = "", site = "n", unit = "i" }\n\n[sizes]'),
        11,
        "all",
        "no line",
    ),
    "stage with an unknown key": (
        linear("[sizes]", '[stages]\nall = { lins = "z", site = "n", unit = "i" }\n\n[sizes]'),
        11,
        "lins",
        "unknown key",
    ),
    "class of a wrong type": (
        linear("[sizes]", "[classes]\naffine-like = 3\n\n[sizes]"),
        11,
        "affine-like",
        "string",
    ),
    "class with a bad name": (
        linear("[sizes]", '[classes]\naffine-like = "9"\n\n[sizes]'),
        None,
        "9",
        "identifier",
    ),
    "unknown class": (
        linear("[sizes]", '[classes]\naffinelike = "A"\n\n[sizes]'),
        11,
        "affinelike",
        "unknown",
    ),
    # the file
    "unknown key": (linear("site", 'seite = "n"\nsite'), 3, "seite", "unknown key"),
    "missing key": (linear('unit    = "i"\n', ""), None, "unit", "missing"),
    "not TOML": (linear('"Linear"', "Linear"), 1, None, "not valid TOML"),
    "table where text belongs": (
        linear('unit    = "i"', "unit = { a = 1 }"),
        4,
        "unit",
        "must be a string",
    ),
    "text where a table belongs": (
        LINEAR.split("[sizes]", maxsplit=1)[0].replace("site ", 'sizes = "n"\nsite '),
        3,
        "sizes",
        "must be a table",
    ),
    "name no identifier": (linear('"Linear"', '"9 lives"'), 1, "9 lives", "identifier"),
    "empty name": (linear('"Linear"', '""'), 1, "name", "identifier"),
    "name a keyword": (linear('"Linear"', '"class"'), 1, "class", "keyword"),
    "name not ASCII": (linear('"Linear"', '"Línear"'), 1, "Línear", "identifier"),
    "control character": (linear('"Linear"', '"Lin\\u0007ear"'), None, "name", "control character"),
    "empty formula": (formula(" "), 2, "forward", "empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_error_names_file_line_symbol_and_remedy(case):
    text, line, symbol, problem = WRONG[case]
    with pytest.raises(SpecError, match=problem) as caught:
        derive(read_spec(text, "my_layer.toml"))
    error = caught.value
    assert error.file == "my_layer.toml"
    assert error.remedy
    if line is not None:
        assert error.line == line
    if symbol is not None:
        assert error.symbol == symbol
    shown = str(error)
    assert shown.startswith("my_layer.toml" + (f":{error.line}:" if error.line else ":"))
    assert "remedy:" in shown


def test_the_plain_texts_are_right():
    assert derive(read_spec(LINEAR)).update.affine
    assert derive(read_spec(CONVOLUTION)).update.affine


@pytest.mark.parametrize(
    "field",
    [
        "name",
        "forward",
        "site",
        "unit",
        "parameters",
        "sizes",
        "inputs",
        "stages",
        "classes",
        "hyperparameters",
        "summary",
        "source",
    ],
)
@pytest.mark.parametrize(
    "value",
    [None, 3, 2.5, True, [1], {"a": [None]}, {3: "x"}, object(), b"n"],
    ids=["none", "int", "float", "bool", "list", "table", "int key", "object", "bytes"],
)
def test_wrong_types_in_python(field, value):
    arguments = {
        "name": "Linear",
        "forward": "z[n, i] = W[i, j]*x[n, j]",
        "site": "n",
        "unit": "i",
        "parameters": {"W": {"torch": "weight"}},
        "sizes": {"j": "in_features", "i": "out_features"},
    }
    with pytest.raises(SpecError) as caught:
        derive(LayerSpec(**{**arguments, field: value}))
    assert caught.value.remedy


def test_missing_file_and_wrong_encoding(tmp_path):
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path / "nothing.toml")
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "Línear"'.encode("latin-1"))
    with pytest.raises(SpecError, match="UTF-8"):
        load_spec(path)


def test_output_without_parameter():
    spec = LayerSpec(
        name="Layer",
        forward="z[n, i] = x[n, i]",
        site="n",
        unit="i",
        parameters={"b": {"optional": True}},
    )
    with pytest.raises(SpecError, match="never used"):
        derive(spec)
    with pytest.raises(SpecError, match="depends on no parameter"):
        derive(spec, frozenset("b"))
