"""What every test shares: one thread, and a Hypothesis profile chosen by HYPOTHESIS_PROFILE.

``dev`` (the default) looks for new examples each time and remembers failing ones; ``ci`` tries
more examples, always the same, and leaves nothing on disk.
"""

import os

import torch
from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=25)
settings.register_profile(
    "ci", deadline=None, max_examples=100, derandomize=True, database=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Tests run side by side in processes; threads within each would only compete for the same cores.
torch.set_num_threads(1)
