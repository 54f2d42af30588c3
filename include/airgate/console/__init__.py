"""What Airgate adds to Airflow's API server: an API, a page, and the record of changes made by hand."""
