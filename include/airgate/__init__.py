"""Airgate: Apache Airflow 3 for machine learning that must be accounted for."""

__version__ = "0.2.0"
