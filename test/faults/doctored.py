"""`shop up` in surroundings that a test has doctored: services that are told other addresses, another time, another network.

``SURROUNDINGS`` is a JSON object: ``{"environment": {"order": {"PAYMENT_URLS": ...}}}`` says what each process of a service finds in
its environment beside, or instead of, what the run has decided.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shop import replicas
from shop.__main__ import app
from shop.program import Program
from shop.replicas import Replica

_surroundings = json.loads(os.environ["SURROUNDINGS"])
_as_decided = replicas.program


def _doctored(replica: Replica, plan: Sequence[Replica], database_url: str, secrets: Mapping[str, str]) -> Program:
    program = _as_decided(replica, plan, database_url, secrets)
    environment = _surroundings["environment"].get(replica.service, {})
    return replace(program, environment={**program.environment, **environment})


if __name__ == "__main__":
    replicas.program = _doctored
    app()
