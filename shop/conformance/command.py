"""`shop conformance`: reads what the command line says, tries the rules, shows the report."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from shop.conformance.restart import restarter
from shop.conformance.runner import run
from shop.conformance.table import as_json, show
from shop.conformance.trial import Offer, Payload, Trial
from shop.conformance.wire import TIMEOUT_SECONDS, Wire
from shop.program import CannotRun

KEY_VARIABLE = "PARTICIPANT_KEY"
