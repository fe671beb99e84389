"""What a spec declares of a class beside the mathematics: kept by generated files, and judged."""

from dataclasses import replace

import pytest

from codegen import generate
from derive.spec import load_spec
from tests.support import SPEC_FILES
from verify.declared import declared_stage
from verify.mutation.loading import subjects_of
from verify.stage import Settings, run_stage

LAYERS = ("linear", "conv1d", "conv_transpose2d")
SOURCES = {name: generate(load_spec(SPEC_FILES[name])) for name in LAYERS}
# Layer, class, what stands in the file, what is put there instead.
BROKEN = {
    "another default": ("linear", "NormLikeLinear", "radius: float = 1.0", "radius: float = 2.0"),
    "a flag that is off": ("conv1d", "PatchNormConv1d", "bias: bool = True", "bias: bool = False"),
    "not exported": ("linear", "AffineLikeLinear", '"AffineLikeLinear", ', ""),
    "a constant shown": ("linear", "AffineLikeLinear", "bias={self.bias is not None}", "bias=True"),
    "not kept": ("linear", "NormLikeLinear", "self.radius = radius", "self.radius = 1.0"),
    "twice the bound": ("linear", "AffineLikeLinear", "bound = 1 /", "bound = 2 /"),
    "no features": ("linear", "AffineLikeLinear", "max(1, self.in_features)", "self.in_features"),
    "one feature as two": ("linear", "AffineLikeLinear", "max(1, self.in_features)",
                           "max(2, self.in_features)"),
    "nothing refused": ("conv1d", "PatchNormConv1d", "groups < 1 or in_channels % groups",
                        "groups < 1"),
    "too much refused": ("conv1d", "PatchNormConv1d", "groups < 1 or in_channels % groups",
                         "groups < 2 or in_channels % groups"),
    "a component twice": ("conv_transpose2d", "AffineLikeConvTranspose2d",
                          "self.output_padding[1] >= max(", "self.output_padding[0] >= max("),
    "one more": ("conv_transpose2d", "AffineLikeConvTranspose2d",
                 "self.output_padding[1] >= max(", "self.output_padding[1] > max("),
    "the smaller of both": ("conv_transpose2d", "AffineLikeConvTranspose2d",
                            "self.output_padding[1] >= max(", "self.output_padding[1] >= min("),
    "one leading axis": ("linear", "AffineLikeLinear", "scale.unsqueeze(-1)", "scale.unsqueeze(1)"),
    "no saturation": ("linear", "AffineLikeLinear", "scale.clamp(max=torch.finfo(wide).max)",
                      "scale"),
    "squares in half precision": ("linear", "AffineLikeLinear", "energy = _energy(x, -1)",
                                  "energy = _energy(x, -1).to(x.dtype)"),
    "beyond the type on the way": ("linear", "AffineLikeLinear", "(z * scale.float())",
                                   "(z * 1000 * (scale.float() / 1000))"),
}  # fmt: skip


def judged(layer, name, text):
    found = [s for s in subjects_of(replace(SOURCES[layer], text=text)) if s.name == name]
    return run_stage("declared", declared_stage, found, Settings(4))


@pytest.mark.parametrize("layer", SOURCES)
def test_generated_files_keep_what_is_declared(layer):
    for entry in SOURCES[layer].classes:
        result = judged(layer, entry.name, SOURCES[layer].text)
        assert result.passed, result.detail


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_file_is_refused(mistake):
    layer, name, old, new = BROKEN[mistake]
    text = SOURCES[layer].text
    assert old in text, "the mistake is planted"
    assert not judged(layer, name, text.replace(old, new)).passed
