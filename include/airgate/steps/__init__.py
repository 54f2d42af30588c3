"""The heavy plane: the runner and the standard steps. It knows the contracts and never imports Airflow."""
