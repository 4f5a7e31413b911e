"""Fair active learning for the left caudate; everything is in `fair_strategy.host`."""

from monailabel.interfaces.app import MONAILabelApp

from fair_strategy.host.app import FairAppMixin


class FairCaudate(FairAppMixin, MONAILabelApp):
    """MONAI Label looks for a direct subclass of its app in this file."""
