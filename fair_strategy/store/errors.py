"""What can be wrong with a state directory."""


class StoreError(RuntimeError):
    """The state directory cannot be used as it is; the message says why and what to do."""


class ServerRunning(StoreError):
    """Another process holds the state directory."""


class UnknownCaseError(LookupError):
    """No case of that id was ever added to the store."""
