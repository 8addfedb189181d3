"""A model that grows: new queries and candidates join it, candidates change and retire, and nothing is trained.

Values in, values out: `Fitted` or `Catalog`, of which the old one stays as it is.
"""

from recs_core.growth.candidates import changed, with_catalog
from recs_core.growth.extension import grown
from recs_core.growth.growing import Growing

__all__ = ["Growing", "changed", "grown", "with_catalog"]
