"""A study whose scans come from a PACS: taking them up, fetching them, sending labels back."""
