"""The studies, on tiny models and small data: what they find is checked, no figure of time is."""
