"""The paper's twelve claims: a rule for each, and the board of verdicts. No torch."""
