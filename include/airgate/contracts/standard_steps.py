"""The standard steps by name: what DAGs ask for, the rules look for, and the log's records name."""

CHECK = "airgate.steps.validate:check"
PREDICT = "airgate.steps.predict:predict"
PARTITION = "airgate.steps.partitions:partition"
PUBLISH = "airgate.steps.publish:publish"
REGISTER = "airgate.steps.register:register"
REGISTER_IMPORTED = "airgate.steps.import_bundle:register"
# What makes versions: the end of a training, and the import of a bundle.
REGISTERING = (REGISTER, REGISTER_IMPORTED)

# How the standard steps call the version in production among their arguments.
LIVE_ARGUMENT = "live"
