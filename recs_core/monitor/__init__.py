"""What a service's log tells of its bundle, day by day: unknown queries, drift of scores and popularity, coverage."""

from recs_core.monitor.report import Day, Report, monitor

__all__ = ["Day", "Report", "monitor"]
