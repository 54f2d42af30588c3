"""The audit log: canonical events in an append-only Merkle log, its integrity, and its completeness against Airflow."""
