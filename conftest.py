"""What the tests of all packages share: how Hypothesis works."""

from hypothesis import HealthCheck, settings

# Examples have no deadline: on a busy machine any of them may have to wait 200 ms for its turn.
settings.register_profile("mien", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mien")
