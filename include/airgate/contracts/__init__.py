"""What both planes share: frozen data, no behaviour of Airflow's and none of pandas'. Imports nothing of ours but errors."""
