"""The paths of the internal protocol, each with the version that its messages have."""

ROUND_PATH = "/two-phase/v1/round"


OUTCOMES_PATH = "/two-phase/v1/outcomes"


PEEK_PATH = "/two-phase/v1/peek"


BRANCHES_PATH = "/two-phase/v1/branches"


CONSERVATION_PATH = "/two-phase/v1/conservation"


DECISIONS_PATH = "/two-phase/v1/decisions"


COUNTERS_PATH = "/two-phase/v1/counters"


STANDING_PATH = "/two-phase/v1/standing"


HOLD_PATH = "/two-phase/v1/hold"


REBUILD_PATH = "/two-phase/v1/rebuild"


RESUME_PATH = "/two-phase/v1/resume"
