"""Random specs of the whole notation, judged by an oracle that shares no code with the derivation.

1. :mod:`verify.fuzz.grammar`   seed, number → a :class:`~verify.fuzz.tree.Layer`, a tree of its own
2. :mod:`verify.fuzz.text`      tree → the TOML that a user would write
3. :mod:`verify.fuzz.measure`   tree → z and K(s,s') by brute force and ``torch.autograd``
4. :mod:`verify.fuzz.expect`    measurements → what a right derivation must say
5. :mod:`verify.fuzz.judge`     TOML → derived, generated, verified, and compared with 4
6. :mod:`verify.fuzz.illegal`   TOML → broken TOML, which must be refused with a ``SpecError``
7. :mod:`verify.fuzz.shrink`    a failing tree → the smallest one that fails in the same way
8. :mod:`verify.fuzz.run`       many of them, side by side, and a table of what was seen
"""
