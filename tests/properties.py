"""How many examples a property is tried with."""

import os

from hypothesis import Phase, settings

settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("default", max_examples=100, deadline=None)
# The same examples every time: what CI finds can be found again.
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

# For histories of many steps. To shrink one that fails can take longer than a test may; it is told
# as it was found.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


def depth(examples: int) -> int:
    """``examples`` in CI, or with ``--hypothesis-profile ci``; else as many as the profile says."""
    if settings.get_current_profile_name() == "ci":
        return examples
    return min(examples, settings().max_examples)
