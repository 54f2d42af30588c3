"""What lies outside Airgate and must be asked, never trusted from a payload: MLflow's versions, Airflow's answer records."""
