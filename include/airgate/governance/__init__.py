"""Decisions as pure functions (gates, promotion, retraining), and what Airflow must enforce (policies, callbacks)."""
