"""The standard steps by name: what DAGs ask for, the rules look for, and the log's records name."""

LOAD = "airgate.steps.load:load_window"
CHECK = "airgate.steps.validate:check"
COMPARE = "airgate.steps.evaluate:compare"
PREDICT = "airgate.steps.predict:predict"
PARTITION = "airgate.steps.partitions:partition"
PUBLISH = "airgate.steps.publish:publish"
REGISTER = "airgate.steps.register:register"
REGISTER_IMPORTED = "airgate.steps.import_bundle:register"
# What makes versions: the end of a training, and the import of a bundle.
REGISTERING = (REGISTER, REGISTER_IMPORTED)

# All of them, and those that take a version out of a bundle.
STANDARD, IMPORTING = "airgate.steps.", "airgate.steps.import_bundle:"
# Which data a run read: facts that only the standard steps leave, and by which validation reads the same rows again.
DATA_FACTS = ("data_revision", "data_hash")
# How the standard steps call the version in production, and a bundle, among their arguments.
LIVE_ARGUMENT, BUNDLE_ARGUMENT = "live", "bundle"
