"""The report page: verdicts first, then everything that they were read off."""
