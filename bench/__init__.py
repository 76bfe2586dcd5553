"""Measurements. What the product logs meanwhile goes to standard error, and only errors do."""

import logging
import sys

import structlog

structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)
