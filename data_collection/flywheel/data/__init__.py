"""Examples and what is known of them: signatures, scenarios, scoring, splits, storage, git."""
