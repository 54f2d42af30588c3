"""The embedded default: one machine, one folder, and PostgreSQL, MLflow and Airflow started and stopped together."""
