"""Inputs made from the OpenAPI document, or damaged by chance, and a count of what the server made of them."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

HANG_SECONDS = 20.0
CALLERS_FAULT = {"source_failed", "node_failed"}
"""Codes with a status over 499 that what the caller named is at fault for: the host of a URL, a node."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXHAUSTIVE = settings(
    deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=False
)


@dataclass
class Tally:
    """What was sent, and what was wrong with the answers."""

    inputs: Counter[str] = field(default_factory=Counter)
    """By API."""
    faults: Counter[str] = field(default_factory=Counter)
    hangs: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    """One example for each kind of wrong answer."""

    def note(self, api: str, status: int, code: str, what: str) -> None:
        """Count one answer."""
        self.inputs[api] += 1
        if status >= 500 and code not in CALLERS_FAULT:
            self.faults[api] += 1
            self.wrong.setdefault(f"{api}: {status} {code}", what)

    def hung(self, api: str, what: str) -> None:
        """Count one input that was not answered in time, or whose connection broke."""
        self.inputs[api] += 1
        self.hangs[api] += 1
        self.wrong.setdefault(f"{api}: no answer", what)

    def table(self) -> str:
        """One line for each API."""
        rows = [f"{'API':<34}{'inputs':>10}{'5xx':>8}{'hangs':>8}"]
        for api in [*sorted(self.inputs), "all"]:
            counts = (self.inputs, self.faults, self.hangs)
            of = [kind.total() if api == "all" else kind[api] for kind in counts]
            rows.append(f"{api:<34}{of[0]:>10}{of[1]:>8}{of[2]:>8}")
        return "\n".join(rows)


def from_document(url: str, tally: Tally, *, examples: int, number: int, headers: Mapping[str, str]) -> None:
    """Ask every operation of the server's document, with data that fits it and with data that does not.

    `examples`: at most so many of each kind; `number`: the seed that they are chosen by.
    Answers that are not as documented are in `tally.wrong`.
    """
    document = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=dict(headers))
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(headers)
        for found in document.get_all_operations():
            _Operation(found.ok(), url, session, tally).ask(examples, number)


class _Operation:
    def __init__(self, operation: schemathesis.APIOperation, url: str, session: requests.Session, tally: Tally) -> None:
        self._operation, self._url, self._session, self._tally = operation, url, session, tally
        self._api = f"document: {', '.join(operation.tags or [])}"

    def ask(self, examples: int, number: int) -> None:
        has_input = bool(self._operation.body or self._operation.query)  # any text is a header or an id: none is wrong
        for mode in [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if has_input else [GenerationMode.POSITIVE]:
            cases = self._operation.as_strategy(generation_mode=mode)

            @seed(number)
            @settings(EXHAUSTIVE, max_examples=examples)
            @given(case=cases)
            def ask_one(case: schemathesis.Case) -> None:
                self._ask(case)

            with suppress(Unsatisfiable):  # no text is wrong where any text is a parameter
                ask_one()

    def _ask(self, case: schemathesis.Case) -> None:
        said = case.as_curl_command()[:1000]
        try:
            response = case.call(base_url=self._url, session=self._session, timeout=HANG_SECONDS)
        except (requests.RequestException, TimeoutError) as error:
            self._tally.hung(self._api, f"{type(error).__name__}: {said}")
            return
        self._tally.note(self._api, response.status_code, _code(response.content), f"{response.content[:300]!r} {said}")
        if _code(response.content) in CALLERS_FAULT:
            return
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as failures:
            for failure in failures.exceptions:
                where = f"{self._operation.label}: {type(failure).__name__}"
                self._tally.wrong.setdefault(where, f"{response.status_code} {failure} {said}"[:2500])


def post(client: httpx2.Client, api: str, path: str, body: bytes, headers: Mapping[str, str], tally: Tally) -> None:
    """Send one body and count what comes back."""
    said = f"POST {path} {dict(headers)} {body[:400]!r}"
    try:
        response = client.post(path, content=body, headers=dict(headers), timeout=HANG_SECONDS)
    except httpx2.TransportError as error:
        tally.hung(api, f"{type(error).__name__}: {said}")
        return
    tally.note(api, response.status_code, _code(response.content), f"{response.content[:300]!r} {said}")


def _code(body: bytes) -> str:
    start = body.find(b'"code":"')
    return "" if start < 0 else body[start + 8 : body.find(b'"', start + 8)].decode("ascii", "replace")
