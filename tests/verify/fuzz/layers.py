"""Small trees that the tests of the fuzzer share."""

from verify.fuzz.tree import Ein, Fun, Layer, Line, Mul, Pow, Read, Size, Sum, Tensor

X, W, B = Read("x", ("n", "j")), Read("W", ("i", "j")), Read("b", ("i",))
MIXED = Ein(("j",), Mul((W, X)))


def affine(value, *, parameters=("W", "b"), optional=()):
    """A layer z[n, i] = value over x[n, j], W[i, j] and b[i]."""
    axes = {"W": (("i",), ("j",)), "b": (("i",),)}
    names = {"W": "weight", "b": "bias"}
    tensors = [Tensor("x", "input", (("n",), ("j",)))]
    tensors += [
        Tensor(p, "parameter", axes[p], names[p], optional=p in optional) for p in parameters
    ]
    sizes = (Size("j", "argument", "j_size"), Size("i", "argument", "i_size"), Size("n", "read"))
    return Layer(
        "Fuzzed", (Line("z", (("n",), ("i",)), value),), ("n",), ("i",), tuple(tensors), sizes
    )


LINEAR = affine(Sum((MIXED, B)), optional=("b",))
SQUARED = affine(Sum((Pow(MIXED, 2), B)))
WAVE = affine(Sum((Ein(("j",), Mul((Fun("tanh", (X,)), W))), B)))
