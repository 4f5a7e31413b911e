"""What can go wrong between this machine and a PACS."""


class ArchiveUnavailable(RuntimeError):
    """The PACS did not answer, or not with all of it: nothing is lost, try again later."""
