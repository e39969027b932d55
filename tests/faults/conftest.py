"""After a slow run of all attacks their counts are written for the docs."""

from tests.faults import ledger


def pytest_sessionfinish(session, exitstatus):
    if session.config.option.markexpr == "slow" and ledger.ATTACKS:
        ledger.PAGE.parent.mkdir(exist_ok=True)
        ledger.PAGE.write_text(ledger.page(), encoding="utf-8")
