"""What the conformance kit says: a result for each check, the report of all, and the error."""

from __future__ import annotations

import dataclasses
import enum


class Verdict(enum.Enum):
    """What has come of a check."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_APPLICABLE = "not applicable"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What has come of one check.

    Attributes:
        name: the name of the check.
        promise: the promise it looks at, in one sentence.
        law: the number of the law in ``docs/laws.md``, or None.
        verdict: whether the promise is kept, or broken, or does not apply to the transport.
        seen: what was seen of a broken promise, or why one does not apply; ``""`` if it is kept.
        observed: the errors that the check met, in order. Two transports that keep a promise in
            the same way have the same here.
    """

    name: str
    promise: str
    law: int | None
    verdict: Verdict
    seen: str = ""
    observed: tuple[str, ...] = ()

    def __str__(self) -> str:
        law = f" (law {self.law})" if self.law else ""
        seen = f"\n    {self.seen}" if self.seen else ""
        return f"{self.verdict.value}: {self.name}: {self.promise}{law}{seen}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConformanceReport:
    """What has come of the checks, in their order.

    Attributes:
        results: one for each check that was asked for.
    """

    results: tuple[CheckResult, ...]

    @property
    def kept(self) -> tuple[CheckResult, ...]:
        """The promises that are kept."""
        return self._with(Verdict.KEPT)

    @property
    def broken(self) -> tuple[CheckResult, ...]:
        """The promises that are not kept."""
        return self._with(Verdict.BROKEN)

    @property
    def not_applicable(self) -> tuple[CheckResult, ...]:
        """The promises that this transport can't give, or that could not be looked at here."""
        return self._with(Verdict.NOT_APPLICABLE)

    def _with(self, verdict: Verdict) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.verdict is verdict)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self._with(verdict))} {verdict.value}" for verdict in Verdict)
        told = [str(result) for result in (*self.broken, *self.not_applicable)]
        return "\n".join([f"of {len(self.results)} promises: {counts}", *told])


class NotConforming(AssertionError):
    """Promises are broken: the message lists each, with its law and with what was seen.

    Attributes:
        report: all that was looked at; None only in an error that was made by hand.
    """

    def __init__(self, message: str = "", *, report: ConformanceReport | None = None) -> None:
        super().__init__(message)
        self.report: ConformanceReport | None = report

    @property
    def broken(self) -> tuple[CheckResult, ...]:
        """The broken promises."""
        return () if self.report is None else self.report.broken
