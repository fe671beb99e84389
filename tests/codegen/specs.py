"""Specs of many shapes, none of them shipped, for properties that hold for every legal spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derive import LayerSpec

WEIGHT_BIAS = {"W": {"torch": "weight"}, "b": {"torch": "bias", "optional": True}}
FULL = {"j": "in_features", "i": "out_features"}


def spec(
    name: str,
    forward: str,
    site: str = "n",
    unit: str = "i",
    *,
    parameters: Mapping[str, Any] = WEIGHT_BIAS,
    sizes: Mapping[str, str] = FULL,
    hyperparameters: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **more: Any,
) -> LayerSpec:
    """A layer with a weight, an optional bias and the sizes of a fully connected layer."""
    return LayerSpec(
        name=name,
        summary=more.pop("summary", "A layer of the tests."),
        forward=forward,
        site=site,
        unit=unit,
        parameters=parameters,
        sizes=sizes,
        hyperparameters=hyperparameters or {},
        inputs=inputs or {},
        **more,
    )


def names(*symbols: str) -> dict[str, Any]:
    """Parameters that are called what their symbols are, after weight and an optional bias."""
    return {**WEIGHT_BIAS, **{s: {"torch": f"{s.lower()}_weight"} for s in symbols}}


W_ONLY = {"W": {"torch": "weight"}}
LENGTH = {"c": "in_channels", "o": "out_channels", "k": "kernel_size"}

SPECS: tuple[LayerSpec, ...] = (
    # several inputs, coefficients
    spec(
        "TwoInputs",
        "z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k] + 3*b[i]",
        parameters=names("V"),
        sizes={"j": "first", "k": "second", "i": "out"},
    ),
    spec("Difference", "z[n, i] = W[i, j]*(x[n, j] - y[n, j]) + b[i]"),
    spec("Gated", "z[n, i] = W[i, j]*x[n, j]*(1 + y[n, j]) + b[i]*size(j)"),
    spec("Modulated", "z[n, i] = W[i, j]*x[n, j] + b[i]*y[n]"),
    spec("Halves", "z[n, i] = 0.5*W[i, j]*x[n, j] - 7*b[i]/2"),
    spec("ThriceBias", "z[n, i] = W[i, j]*x[n, j] + 3*b[i]"),
    spec(
        "Trilinear",
        "z[n, i] = W[i, j, k, l]*x[n, j]*y[n, k]*u[n, l] + b[i]",
        sizes={"j": "first", "k": "second", "l": "third", "i": "out"},
    ),
    # powers and features
    spec("Square", "z[n, i] = W[i, j]*x[n, j]**2 + b[i]"),
    spec("Cube", "z[n, i] = W[i, j]*x[n, j]**3 + b[i]"),
    spec(
        "Quadratic", "z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n, j]**2 + b[i]", parameters=names("V")
    ),
    spec(
        "Cubic",
        "z[n, i] = W[i,j]*x[n,j] + V[i,j]*x[n,j]**2 + U[i,j]*x[n,j]**3 + b[i]",
        parameters=names("V", "U"),
    ),
    spec(
        "Waves",
        "z[n, i] = W[i, j]*tanh(x[n, j]) + V[i, j]*exp(-x[n, j]*x[n, j]/2) + b[i]",
        parameters=names("V"),
    ),
    spec("Hyperbola", "z[n, i] = W[i, j]*sqrt(1 + x[n, j]**2) + b[i]"),
    spec(
        "Rectified",
        "z[n,i] = W[i,j]*gelu(x[n,j]) + V[i,j]*silu(x[n,j]) + U[i,j]*relu(x[n,j]) + b[i]",
        parameters=names("V", "U"),
    ),
    spec(
        "Logarithm",
        "z[n, i] = W[i, j]*log(1 + x[n, j]**2) + erf(x[n, i])*b[i]",
        sizes={"i": "features", "j": "features"},
    ),
    spec("Centred", "m[n] = mean[j](x[n, j])\nz[n, i] = W[i, j]*(x[n, j] - m[n]) + b[i]"),
    spec("Softmax", "a[n, j] = softmax[j](x[n, j])\nz[n, i] = W[i, j]*a[n, j] + b[i]"),
    spec("Largest", "m[n] = max[j](x[n, j])\nz[n, i] = W[i, j]*exp(x[n, j] - m[n]) + b[i]"),
    spec("Soft", "z[n, i] = W[i, j]*x[n, j]/sqrt(1 + sum[k](x[n, k]**2)) + b[i]"),
    # windows that are no convolution of torch's, and some that are
    spec(
        "OddWindow",
        "z[n, o, p] = W[o, c, k]*x[n, c, 2*p + 3*k - 1] + b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "(l - 1)//2"},
        inputs={"x": "n c l"},
    ),
    spec(
        "FlippedWindow",
        "z[n, o, p] = W[o, c, k]*x[n, c, p - k + 2] - 2*b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "l"},
        inputs={"x": "n c l"},
    ),
    spec(
        "WideWindow",
        "z[n, o, p] = W[o, c, k]*x[n, c, p + 2*k - 1] + b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "l + 2 - 2*(k - 1)"},
        inputs={"x": "n c l"},
    ),
    spec(
        "ShortWindow",
        "z[n, o, p] = W[o, c, k]*x[n, c, p + k] + b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "l - k + 1"},
        inputs={"x": "n c l"},
    ),
    spec(
        "SquaredWindow",
        "z[n, o, p] = W[o, c, k]*x[n, c, p + k]**2 + b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "l - k + 1"},
        inputs={"x": "n c l"},
    ),
    spec(
        "UnitLastWindow",
        "z[n, p, o] = W[o, c, k]*x[n, c, 2*p + k] + b[o]",
        "n p",
        "o",
        sizes={**LENGTH, "p": "(l - k)//2 + 1"},
        inputs={"x": "n c l"},
    ),
    spec(
        "WindowOfOneMap",
        "z[n, p] = W[k]*x[n, p + k]",
        "n p",
        "",
        parameters=W_ONLY,
        sizes={"k": "kernel_size", "p": "l - k + 1"},
        inputs={"x": "n l"},
    ),
    spec(
        "OddImage",
        "z[n, o, p, q] = W[o, c, k, m]*x[n, c, 2*p + k - 1, q + 3*m - 2] + b[o]",
        "n p q",
        "o",
        sizes={
            "c": "in_channels",
            "o": "out_channels",
            "k": "height",
            "m": "width",
            "p": "(v + 2 - k)//2 + 1",
            "q": "w + 4 - 3*(m - 1)",
        },
        inputs={"x": "n c v w"},
    ),
    spec(
        "GroupedWindow",
        "z[n, (g, o), p] = W[(g, o), c, k]*x[n, (g, c), p + rate*k] + b[(g, o)]",
        "n g p",
        "o",
        sizes={
            "(g, c)": "in_channels",
            "(g, o)": "out_channels",
            "k": "kernel_size",
            "g": "groups",
            "p": "l - rate*(k - 1)",
        },
        hyperparameters={"rate": 2, "groups": 2},
        inputs={"x": "n (g c) l"},
    ),
    spec(
        "Correlation",
        "z[n, o, p] = W[o, k]*x[n, p + k]*y[n, p - k + 1] + b[o]",
        "n p",
        "o",
        sizes={"o": "out_channels", "k": "kernel_size", "p": "l"},
        inputs={"x": "n l", "y": "n l"},
    ),
    spec(
        "Windows",
        "z[n, o, t, k] = W[o, f]*x[n, stride*t + k, f] + b[o]",
        "n t k",
        "o",
        sizes={"o": "out_channels", "f": "features", "k": "window", "t": "(l - k)//stride + 1"},
        hyperparameters={"stride": 2},
        inputs={"x": "n l f"},
    ),
    spec(
        "Depthwise",
        "z[n, o, p] = W[o, k]*x[n, o, p + k - 1] + 2*b[o]",
        "n p",
        "o",
        sizes={"o": "channels", "k": "kernel_size", "p": "l + 3 - k"},
        inputs={"x": "n o l"},
    ),
    # weights that are not shared, several letters a unit, no unit, no batch, unit first
    spec(
        "LocalImage",
        "z[n, o, p, q] = W[o, p, q, c, k, m]*x[n, c, p + k, q + m] + b[o, p, q]",
        "n p q",
        "o",
        sizes={
            "c": "in_channels",
            "o": "out_channels",
            "k": "kernel_height",
            "m": "kernel_width",
            "v": "height",
            "w": "width",
            "p": "v - k + 1",
            "q": "w - m + 1",
        },
        inputs={"x": "n c v w"},
    ),
    spec(
        "PerToken",
        "z[n, t, i] = W[t, i, j]*x[n, t, j] + b[t, i]",
        "n t",
        sizes={"t": "tokens", **FULL},
    ),
    spec(
        "TwoLetters",
        "z[n, i, k] = W[i, k, j]*x[n, j] + b[i, k]",
        unit="i k",
        sizes={"i": "rows", "k": "columns", "j": "features"},
    ),
    spec(
        "Scalar",
        "z[n] = w[j]*x[n, j] + b",
        unit="",
        parameters={"w": {"torch": "weight"}, "b": {"torch": "bias"}},
        sizes={"j": "features"},
    ),
    spec("OneSite", "z[i] = W[i, j]*x[j] + b[i]", site=""),
    spec("UnitFirst", "z[i, n] = W[i, j]*x[j, n] + b[i]"),
    # diagonal reads, Toeplitz parameters, tokens
    spec("DiagonalInput", "z[n, i] = W[i, j]*x[n, j, j] + b[i]"),
    spec(
        "WithDiagonal",
        "z[n, i] = W[i, j]*x[n, j] + d[i]*x[n, i] + b[i]",
        parameters=names("d"),
        sizes={"i": "features", "j": "features"},
    ),
    spec(
        "Toeplitz",
        "z[n, t, d] = R[t - u + size(t) - 1]*x[n, u, d] + W[d, f]*x[n, t, f]",
        "n t",
        "d",
        parameters={**W_ONLY, "R": {"torch": "relative", "axes": "r"}},
        sizes={"t": "tokens", "u": "tokens", "d": "features", "f": "features", "r": "2*t - 1"},
        inputs={"x": "n u d"},
    ),
    spec(
        "TwoTables",
        "z[n, i] = W[t[n], i] + P[s[n], i]",
        parameters={
            "W": {"torch": "weight", "axes": "v i"},
            "P": {"torch": "positions", "axes": "m i"},
        },
        sizes={"v": "vocabulary", "m": "length", "i": "features"},
    ),
    # kernels that depend on the parameters, diagonal and full ones
    spec(
        "Squared",
        "z[n, i] = (W[i, j]*x[n, j])**2 + b[i]",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
    ),
    spec(
        "Saturated",
        "z[n, i] = tanh(W[i, j]*x[n, j] + b[i])",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
    ),
    spec(
        "SquaredWeight",
        "z[n, i] = W[i, j]**2*x[n, j] + b[i]",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
    ),
    spec(
        "Hidden",
        "h[n, r] = tanh(A[r, j]*x[n, j])\nz[n, i] = B[i, r]*h[n, r] + b[i]",
        parameters={"A": {"torch": "down"}, "B": {"torch": "up"}, "b": {"torch": "bias"}},
        sizes={"r": "rank", **FULL},
    ),
    spec(
        "SharedBias",
        "z[n, i] = W[i, j]*x[n, j] + b",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
    ),
    spec(
        "Mix",
        "a[n,t,u] = softmax[u](s[n,t,u])\nv[n,u,d] = W[d,j]*x[n,u,j] + b[d]\n"
        "z[n,t,d] = a[n,t,u]*v[n,u,d]",
        "n t",
        "d",
        sizes={"j": "features", "d": "head"},
    ),
    # centred without a line of its own; coefficients that vanish or change sign
    spec("CentredInline", "z[n, i] = sum[j](W[i, j]*(x[n, j] - mean[j](x[n, j]))) + b[i]"),
    spec(
        "SignedCoefficient",
        "z[n, i] = W[i, j]*x[n, j]/tau + tau**3*b[i]",
        hyperparameters={"tau": 0.7},
    ),
    # two optional parameters that go to two calls, a skip without which all units share a gauge
    spec(
        "TwoBiases",
        "z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k] + b[i] - 2*c[i]",
        parameters={**names("V"), "c": {"torch": "shift", "optional": True}},
        sizes={"j": "first", "k": "second", "i": "out"},
    ),
    spec(
        "ScaledSkip",
        "z[n, i] = W[i, j]*x[n, j] + U[i]*x[n, i]",
        parameters={"W": {"torch": "weight"}, "U": {"torch": "skip", "optional": True}},
        sizes={"j": "dim", "i": "dim"},
    ),
    # maxima, axes that the gradient of an input lacks, sizes and indices of two letters
    spec(
        "Maxima",
        "z[n, i] = W[i, j]*max(x[n, j], 1) + V[i, j]*max(x[n, j], y[n, j]) + b[i]",
        parameters=names("V"),
    ),
    spec("Decay", "z[n, i] = W[i, j]*exp(-x[n, j] - y[n, j]) + b[i]"),
    spec("Summed", "z[n, i] = W[i]*sum[j](x[n, j]) + b[i]", sizes={"i": "out"}),
    spec(
        "Inverse",
        "z[n, i] = W[i, j]*x[n, j]/(1 + tau**2) + b[i]/size(j)**2",
        hyperparameters={"tau": 0.7},
    ),
    spec(
        "Antidiagonal",
        "z[n, i] = W[i, j, k]*x[n, j + k, j - k + 1] + b[i]",
        sizes={"j": "first", "k": "second", "i": "out"},
        inputs={"x": "n v w"},
    ),
    spec(
        "SecondInput",
        "z[n, o, p] = W[o, c, k]*x[n, c, p + k] + V[o]*y[n, p] + b[o]",
        "n p",
        "o",
        parameters=names("V"),
        sizes=LENGTH,
        inputs={"x": "n c l", "y": "n p"},
    ),
    # weights and inputs with their axes in other orders
    spec("WeightFirst", "z[n, i] = W[j, i]*x[n, j] + b[i]"),
    spec("UnitFirstOfThree", "z[i, n, m] = W[i, j]*x[j, n, m] + b[i]", "n m"),
    spec(
        "TwoLettersFirst",
        "z[i, n] = W[i, j, k]*x[j, k, n] + b[i]",
        sizes={"j": "first", "k": "second", "i": "out"},
    ),
    # windows without a batch, and other layers of which none of these has anything like
    spec(
        "OneImage",
        "z[o, p] = W[o, c, k]*x[c, p + k] + b[o]",
        "p",
        "o",
        sizes={**LENGTH, "p": "l - k + 1"},
        inputs={"x": "c l"},
    ),
    spec(
        "OneDepthwise",
        "z[o, p] = W[o, k]*x[o, p + k] + b[o]",
        "p",
        "o",
        sizes={"o": "channels", "k": "kernel_size", "p": "l - k + 1"},
        inputs={"x": "o l"},
    ),
    spec(
        "ShiftedSoftmax",
        "a[n, j] = softmax[j](x[n, j])\nz[n, i] = W[i, k]*a[n, k + 1] + b[i]",
        sizes={"k": "in_features", "i": "out_features"},
    ),
    spec(
        "PerHead",
        "z[n, a, c] = W[a]*x[n, (a, c)] + b[a]",
        "n c",
        "a",
        sizes={"a": "heads"},
        inputs={"x": "n (a c)"},
    ),
    spec(
        "HeadsTogether",
        "z[n, t, (a, d)] = W[(a, d), j]*x[n, t, j] + U[a]*y[n, t, d] + b[(a, d)]",
        "n t",
        "a d",
        parameters=names("U"),
        sizes={"a": "heads", "(a, d)": "embed", "j": "features"},
    ),
    # an intermediate that is a number
    spec("Counted", "m = 3*size(j)\nz[n, i] = W[i, j]*x[n, j]*tanh(x[n, j]/m)/sqrt(m) + m*b[i]"),
    spec(
        "SquareTable",
        "z[n, t, d] = R[t + u]*x[n, u, d] + W[d, f]*x[n, t, f]",
        "n t",
        "d",
        parameters={**W_ONLY, "R": {"torch": "relative", "axes": "r"}},
        sizes={"t": "tokens", "u": "tokens", "d": "features", "f": "features", "r": "t**2"},
        inputs={"x": "n u d"},
    ),
    # a letter twice in a window, which is no convolution, and constant indices
    spec(
        "AlongDiagonals",
        "z[n, o, p, q] = W[o, c, k]*x[n, c, p + k, q + k]",
        "n p q",
        "o",
        parameters=W_ONLY,
        sizes={**LENGTH, "p": "a - k + 1", "q": "b - k + 1"},
        inputs={"x": "n c a b"},
    ),
    spec("FirstOnes", "z[n, i] = W[i, j]*x[n, j] + b[i]*x[n, 1]"),
    # axes that are read along their diagonal, and axes of one letter
    spec(
        "TraceFirst",
        "z[n, i] = W[j, j]*x[n, i] + W[i, k]*x[n, k]",
        parameters=W_ONLY,
        sizes={"i": "features", "j": "features", "k": "features"},
    ),
    spec(
        "SquareInput",
        "z[n, i] = W[i, u, v]*x[n, u, v]",
        parameters=W_ONLY,
        sizes={"i": "out", "u": "width", "v": "width"},
        inputs={"x": "n l l"},
    ),
)
