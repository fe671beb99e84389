"""What the corrected layers cost: time and memory against the plain layer and its usual rivals.

``python -m bench all`` measures everything; ``python -m bench --help`` teaches the rest. A file
holds one concept: ``cases`` (what is measured) and ``modes`` (how it is run), ``timing`` (rounds
and ratios), ``memory`` (bytes kept for backward), ``profile`` (time by operator), ``models``,
``scale``, ``pipeline``, ``chip`` (what the device itself can do), ``limits`` (what must hold),
``results`` (the file of measurements), ``report``, ``plot``, ``page`` (what is made of them) and
``compare`` (regressions).
"""
