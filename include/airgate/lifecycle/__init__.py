"""The light tasks between the steps: operators that read the log, apply a rule of `governance`, and record what they decided."""
