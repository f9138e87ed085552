"""The reply of a worker that has profiled a case; apart, as its content imports torch."""

from mann_bench.measure.profile import Profile
from mann_bench.run.replies import Reply


class Profiled(Reply):
    """A case is profiled."""

    profile: Profile
