"""Run summaries, reports and alerts for the people who operate the system."""
