"""What all tests share. Importing Airflow here would cost every small test seconds: see the conftest of each folder."""

from hypothesis import HealthCheck, settings

# How fast a busy machine draws examples says nothing about the code.
settings.register_profile("airgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("airgate")
