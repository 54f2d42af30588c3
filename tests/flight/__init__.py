"""A package only so that its fixtures end with it: the next folder's tests start an Airflow of their own."""
