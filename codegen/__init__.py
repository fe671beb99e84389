"""From solved corrections to plain PyTorch; no mathematics in here."""

from codegen.layer import ClassSource, LayerSource, NothingToGenerate, generate

__all__ = ["ClassSource", "LayerSource", "NothingToGenerate", "generate"]
